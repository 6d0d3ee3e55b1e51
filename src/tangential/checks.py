"""Checks of numbers, for options of every library."""

import math
from numbers import Real
from operator import index
from typing import Any


def check_numbers(below: float = math.inf, **values: Any) -> None:
    """Raise a ValueError if a value is not a number >= 0 and < `below`.

    >>> check_numbers(below=1, momentum=1.5)
    Traceback (most recent call last):
    ValueError: momentum must be a number in [0, 1), got 1.5
    """
    for name, value in values.items():
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not (is_number and 0 <= float(value) < below):
            allowed = "a finite number >= 0" if below == math.inf else f"a number in [0, {below})"
            raise ValueError(f"{name} must be {allowed}, got {value!r:.200}")


def integer(name: str, value: Any, least: float = -math.inf, advice: str = "") -> int:
    """The value as an integer; a ValueError, which ends with `advice`, if it is none."""
    try:
        if not isinstance(value, bool) and index(value) >= least:
            return index(value)
    except TypeError:
        pass
    allowed = "an integer" if least == -math.inf else f"an integer >= {least}"
    raise ValueError(f"{name} must be {allowed}, got {value!r:.200}{advice}")
