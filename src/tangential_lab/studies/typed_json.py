"""JSON checked against type hints: other programs may have changed the database."""

import json
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from tangential_lab.errors import shorten

LONGEST_VALUE = 80  # characters of a wrong value in a message
LARGEST_INT = 2**63
EXPECTED = {float: "a number", int: "an integer", str: "a string", bool: "true or false"}
EXPECTED |= {list: "a list", dict: "an object"}


def parse_json(hint: Any, text: str | bytes, name: str) -> Any:
    """The value of a JSON text, converted to a type hint; ValueError as in `typed`."""
    try:
        value = json.loads(text)
    except (RecursionError, TypeError) as error:
        raise ValueError(f"{quoted(text)} is not JSON") from error
    return typed(hint, value, name)


def quoted(value: Any) -> str:
    """A value as a message shows it."""
    return shorten(repr(value), LONGEST_VALUE)


def typed(hint: Any, value: Any, name: str) -> Any:
    """A value from JSON, converted to a type hint: a dict becomes a NamedTuple if the hint is one.

    A hint is Any, a scalar, or a list, dict, tuple, TypedDict or NamedTuple of these; or Optional.
    For a value of another type, a ValueError names the value.

    >>> typed(dict[str, tuple[float, float]], {"lr": [0.1, 1]}, "space")
    {'lr': (0.1, 1)}
    >>> typed(list[float], [0.1, None], "norm")
    Traceback (most recent call last):
    ValueError: norm[1] is None, expected a number
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if NoneType in parts:
        return None if value is None else typed(parts[0], value, name)
    if hint is Any:
        return value
    if kind is tuple:
        right = type(value) is list and len(value) == len(parts)
        _expect(right, name, value, f"a list of {len(parts)}")
        return tuple(typed(part, value[i], f"{name}[{i}]") for i, part in enumerate(parts))
    if is_typeddict(kind) or hasattr(kind, "_fields"):
        return _fields(kind, typed(dict[str, Any], value, name), name)
    also = int if kind is float else kind  # JSON may have 1 for 1.0
    _expect(type(value) in (kind, also), name, value, EXPECTED[kind])
    if kind is dict:
        return {key: typed(parts[1], item, f"{name}.{key}") for key, item in value.items()}
    if kind is list:
        if parts[0] is float and set(map(type, value)) == {float}:
            return value  # fast for millions of numbers
        return [typed(parts[0], item, f"{name}[{i}]") for i, item in enumerate(value)]
    small = type(value) is not int or abs(value) < LARGEST_INT
    _expect(small, name, value, f"{EXPECTED[kind]} below {LARGEST_INT:.1e}")
    return value


def _fields(hint: Any, value: dict[str, Any], name: str) -> Any:
    """A NamedTuple, which refuses unknown fields, or the dict of a TypedDict, which keeps them."""
    hints = get_type_hints(hint)
    optional = hint.__optional_keys__ if is_typeddict(hint) else hint._field_defaults
    if missing := [key for key in hints if key not in value and key not in optional]:
        raise ValueError(f"{name} has no {', '.join(missing)}")
    known = {key: typed(hints[key], value[key], f"{name}.{key}") for key in hints if key in value}
    if is_typeddict(hint):
        return value | known
    for key in value:
        if key not in hints:
            raise ValueError(f"{name} has an unknown field {quoted(key)}")
    return hint(**known)


def _expect(right: bool, name: str, value: Any, expected: str) -> None:
    if not right:
        raise ValueError(f"{name} is {quoted(value)}, expected {expected}")
