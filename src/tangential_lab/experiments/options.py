"""Options of a task: the keyword arguments of its function, in Python and on the command line."""

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple, ParamSpec, get_args, get_origin, get_type_hints

from tangential_lab.training import Task

P = ParamSpec("P")


class Option(NamedTuple):
    """One option of a task."""

    name: str
    type: Any  # a Literal, bool, or a type of numbers
    default: Any

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values, the default first; empty where any finite number is allowed."""
        values = get_args(self.type) if get_origin(self.type) is Literal else ()
        values = (True, False) if self.type is bool else values
        return tuple(sorted(values, key=lambda value: value != self.default))

    def parse(self, text: str) -> Any:
        """The value that a text on the command line stands for.

        Raises:
            ValueError: the option has no such value.
        """
        from cyclopts import CoercionError, convert

        try:
            value = convert(self.type, [text])
        except CoercionError as error:
            raise ValueError(self._refusal(text, _spelled)) from error
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        """Raise ValueError if the option has no such value."""
        is_odd = isinstance(value, float) and not math.isfinite(value)
        if value not in self.choices if self.choices else is_odd:
            raise ValueError(self._refusal(value, str))

    def _refusal(self, value: Any, spell: Callable[[Any], str]) -> str:
        *some, last = [*map(spell, self.choices)] or ["a finite number"]
        allowed = f"{', '.join(some)} or {last}" if some else last
        return f"{self.name} must be {allowed}, got {value!r}"

    def __str__(self) -> str:
        """The option as on the command line, with all its values: preset=mini|paper."""
        return f"{self.name}={'|'.join(map(_spelled, self.choices or (self.default,)))}"


def options_of(function: Callable[..., Task]) -> dict[str, Option]:
    """The options of a task's function, by name."""
    hints, parameters = get_type_hints(function), inspect.signature(function).parameters
    for name, parameter in parameters.items():
        if name != "data" and (name not in hints or parameter.default is parameter.empty):
            raise ValueError(
                f"{function.__name__}'s parameter {name!r} needs a type and a default value, such "
                f"as {name}: int = 3, to be an option of the task"
            )
    return {
        name: Option(name, hints[name], parameter.default)
        for name, parameter in parameters.items()
        if name != "data"
    }


def checked(function: Callable[P, Task]) -> Callable[P, Task]:
    """Make a task's function raise ValueError for values that its options do not have."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Task:
        for name, option in options_of(function).items():
            if name in kwargs:
                option.check(kwargs[name])
        return function(*args, **kwargs)

    return inner


def _spelled(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
