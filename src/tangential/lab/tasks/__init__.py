"""The experiments. A task is a function that returns a `Task`."""

from collections.abc import Callable

from tangential.lab.task import Task
from tangential.lab.tasks.digits import digits

TASKS: dict[str, Callable[[], Task]] = {"digits": digits}
