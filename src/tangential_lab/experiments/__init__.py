"""The experiments: functions that return a `Task`, with options for keyword arguments."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, ParamSpec, get_args, get_origin, get_type_hints

from tangential_lab.names import unknown_name
from tangential_lab.training.task import Task

NAMES = (  # each a module here with a function of its name
    *("digits", "imagenet", "detection", "adversarial", "bias"),
    *("audio", "retrieval", "language"),
)
P = ParamSpec("P")


def checked(function: Callable[P, Task]) -> Callable[P, Task]:
    """The function of a task, but that it refuses values that its options do not have.

    Raises:
        ValueError: an option has no such value.
    """

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Task:
        _check(function, kwargs)
        return function(*args, **kwargs)

    return inner


def function(name: str) -> Callable[..., Task]:
    """The function of a task.

    Raises:
        ValueError: there is no such task.
    """
    if name not in NAMES:
        raise ValueError(unknown_name(name, NAMES, "task"))
    return getattr(import_module(f"tangential_lab.experiments.{name}"), name)


def about(name: str) -> str:
    """What a task is, in a line."""
    return (inspect.getdoc(function(name)) or "").split("\n")[0]


def options(name: str) -> dict[str, tuple[Any, Any]]:
    """A task's options: what is allowed (values, or float or bool), and the default."""
    return _options(function(name))


def _options(function: Callable[..., Task]) -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: (get_args(hints[p.name]) if _is_choice(hints[p.name]) else hints[p.name], p.default)
        for p in parameters
        if p.name != "data"
    }


def make(name: str, data: Path | None, chosen: dict[str, Any]) -> Task:
    """The task with these options.

    Raises:
        ValueError: an option has no such value, or the data are missing or broken.
    """
    make = function(name)
    for key in chosen.keys() - _options(make).keys():
        raise ValueError(f"{name} has no option {key!r}. Known: {spelt(name)}.")
    _check(make, chosen)
    return make(data=data, **chosen)


def parsed(name: str, given: list[str]) -> dict[str, Any]:
    """Options as the command line spells them, "name=value".

    Raises:
        ValueError: the task has no such option, or it has no such value.
    """
    known, chosen = options(name), {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name} has no option {key!r}.{hint} Known: {spelt(name)}.")
        chosen[key] = _value(key, value, known[key][0])
    return chosen


def spelt(name: str) -> str:
    """The options of a task and what they may be, the default first."""
    return ", ".join(
        f"{key}={'|'.join(map(_spelt, _choices(allowed, default)))}"
        for key, (allowed, default) in options(name).items()
    )


def _choices(allowed: Any, default: Any) -> list[Any]:
    others = (True, False) if allowed is bool else allowed if isinstance(allowed, tuple) else ()
    return [default, *(x for x in others if x != default)]


def _spelt(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _is_choice(hint: Any) -> bool:
    return get_origin(hint) is Literal


def _check(function: Callable[..., Task], chosen: Mapping[str, Any]) -> None:
    for key, (allowed, _) in _options(function).items():
        values = (True, False) if allowed is bool else allowed
        if key in chosen and isinstance(values, tuple) and chosen[key] not in values:
            raise ValueError(_refused(key, chosen[key], map(str, values)))


def _refused(key: str, value: Any, allowed: Iterable[str]) -> str:
    return f"{key} is {value!r}, allowed are {', '.join(allowed)}"


def _value(key: str, text: str, allowed: Any) -> Any:
    if allowed is bool:
        allowed = (True, False)
    if isinstance(allowed, tuple):
        for value in allowed:
            if _spelt(value) == text:
                return value
        raise ValueError(_refused(key, text, map(_spelt, allowed)))
    try:
        value = allowed(text)
    except ValueError as error:
        raise ValueError(f"{key} is {text!r}, allowed are numbers") from error
    if not math.isfinite(value):
        raise ValueError(f"{key} is {text!r}, allowed are finite numbers")
    return value
