"""The paper's experiments, one folder each: its task, its nets and its data.

A task is a function that returns a `Task`; its keyword arguments are the task's options. The
function has the name of its module. `options` checks and parses options, `published` has settings
of published trainings, `user_tasks` loads users' own tasks. `data` holds what several experiments
share: where data sets are found, images in memory, photographs in folders. `downloads` fetches and
checks data sets.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.options import Option, checked, options_of
from tangential_lab.experiments.user_tasks import (
    code_of,
    is_user_task,
    make_user_task,
    user_task_function,
)
from tangential_lab.names import unknown_name
from tangential_lab.training import Task

OWN_TASK = "Your own task is FILE.py:FUNCTION."
NAMES = (  # each is a module here, with a function of the same name
    *("digits", "imagenet", "detection", "adversarial", "bias"),
    *("audio", "retrieval", "language", "pretraining"),
)


def task_function(name: str) -> Callable[..., Task]:
    """The function that makes a task: a built-in one, or FILE.py:FUNCTION of a user, which is run.

    Raises:
        ValueError: there is no such task, or the user's file cannot be run.
    """
    if is_user_task(name):
        return user_task_function(name)
    if name not in NAMES:
        raise ValueError(f"{unknown_name(name, NAMES, 'task')} {OWN_TASK}")
    return getattr(import_module(f"tangential_lab.experiments.{name}"), name)


def about(name: str) -> str:
    """One line about a task."""
    return (inspect.getdoc(task_function(name)) or "").split("\n")[0]


def options(name: str) -> dict[str, Option]:
    """A task's options by name."""
    return options_of(task_function(name))


def parse_options(name: str, texts: list[str]) -> dict[str, Any]:
    """The values of options that are written as "name=value".

    Raises:
        ValueError: the task has no such option, or the option has no such value.
    """
    known, chosen = options(name), {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"an option of {name} must be written as name=value, got {text!r}")
        _check_name(name, key)
        chosen[key] = known[key].parse(value)
    return chosen


def make(name: str, data: Path | None, chosen: dict[str, Any]) -> Task:
    """The task with these options.

    Args:
        name: One of `NAMES`, or FILE.py:FUNCTION.
        data: Folder that holds a folder for each data set; None looks at TANGENTIAL_DATA.
        chosen: Values of options by name.

    Raises:
        ValueError: an option or its value is unknown, or data are missing or broken.
    """
    for key in chosen:
        _check_name(name, key)
    if is_user_task(name):
        return make_user_task(name, data, chosen)
    return task_function(name)(data=data, **chosen)


def _check_name(task: str, option: str) -> None:
    if option not in (known := options(task)):
        text = unknown_name(option, known, f"{task} option")
        raise ValueError(f"{text} `tangential list` shows their values.")
