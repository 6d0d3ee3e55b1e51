"""Tasks of users, FILE.py:FUNCTION: a function that returns a `Task`, as our own tasks are."""

import inspect
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tangential_lab.training import (
    Metric,
    Task,
    describe_error,
    load_function,
    read_with_neighbours,
)

SPLITS = ("train", "validation", "test")
SAMPLES = 64  # of every split, for the checksum of data that have none


def is_user_task(name: str) -> bool:
    """Whether this is a task in a user's file.

    >>> is_user_task("mine.py:task"), is_user_task("digits")
    (True, False)
    """
    return name.rpartition(":")[0].endswith(".py")


def user_task_function(name: str) -> Callable[..., Task]:
    """Run the user's file and return its function.

    Raises:
        ValueError: the file or the function does not exist, or the file cannot be run.
    """
    file, _, function = name.rpartition(":")
    return load_function(Path(file), function)


def make_user_task(name: str, data: Path | None, chosen: dict[str, Any]) -> Task:
    """The task that the user's function returns; `data` is passed if the function takes it.

    Raises:
        ValueError: the function fails, or what it returns cannot be trained; names the line or
            the field.
    """
    function, file = user_task_function(name), Path(name.rpartition(":")[0])
    given = {"data": data} if "data" in inspect.signature(function).parameters else {}
    try:
        task = function(**given, **chosen)
    except Exception as error:
        raise ValueError(f"{name} fails: {describe_error(error, file)}") from error
    if not isinstance(task, Task):
        raise ValueError(f"{name} must return a tangential_lab.training.Task, got {task!r:.200}")
    for what, problem in _problems(task):
        raise ValueError(f"{name}: the task's {what} {problem}")
    return task._replace(data=task.data._replace(checksum=task.data.checksum or _checksum(task)))


def code_of(name: str) -> bytes:
    """The user's file and the files in its folder that it imports, for a fingerprint."""
    contents = read_with_neighbours(Path(name.rpartition(":")[0]))
    return b"".join(contents[path] for path in sorted(contents))


def _problems(task: Task) -> list[tuple[str, str]]:
    """What is wrong with the fields that users most often get wrong."""
    problems = []
    lacking = [split for split in SPLITS if split not in task.splits]
    if lacking:
        problems.append(("splits", f"lack {', '.join(lacking)}: expected {', '.join(SPLITS)}"))
    elif len(task.splits["train"]) < task.batch_size or task.batch_size < 1:
        size = len(task.splits["train"])
        problems.append(("batch_size", f"is {task.batch_size}, expected 1 to {size}, the samples"))
    if not isinstance(task.metric, Metric):
        problems.append(("metric", f"must be a Metric, got {task.metric!r:.100}"))
    if not task.epochs > 0:
        problems.append(("epochs", f"must be > 0, got {task.epochs!r}"))
    for family in ("sgd", "adam"):
        point = task.published.get(family, {})
        if not {"lr", "weight_decay"} <= point.keys() or not point["lr"] > 0:
            problems.append(
                ("published", f'needs {{"{family}": {{"lr": > 0, "weight_decay": >= 0}}}}')
            )
    if not (callable(task.model) and not isinstance(task.model, nn.Module)):
        problems.append(("model", "must be a function that returns a new module for every trial"))
    return problems


def _checksum(task: Task) -> str:
    """A fingerprint of the sizes and the first samples of all splits."""
    digest = sha256()
    for name in SPLITS:
        split = task.splits[name]
        batch = split.__getitems__([*range(min(SAMPLES, len(split)))])
        digest.update(f"{name} {len(split)}\n".encode())
        for part in batch if isinstance(batch, tuple | list) else [batch]:
            is_tensor = isinstance(part, Tensor)
            digest.update(part.cpu().numpy().tobytes() if is_tensor else repr(part).encode())
    return digest.hexdigest()[:16]
