"""JSON checked against type hints: other programs may have changed the database."""

import json
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from tangential_lab.errors import shorten

LONGEST_VALUE = 80  # characters of a wrong value in a message
LARGEST_INT = 2**63
NAMES = {float: "a number", int: "an integer", str: "a string", bool: "true or false"}


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except (RecursionError, TypeError) as error:
        raise ValueError(f"{quoted(text)} is not JSON") from error


def quoted(value: Any) -> str:
    """A value as a message shows it."""
    return shorten(repr(value), LONGEST_VALUE)


def typed(hint: Any, value: Any, name: str) -> Any:
    """A value from JSON, converted to a type hint: a dict becomes a NamedTuple if the hint is one.

    Args:
        hint: Any, a scalar, or a list, dict, tuple, TypedDict or NamedTuple of these; or Optional.
        value: The value from JSON.
        name: Name of the value, for the error.

    Raises:
        ValueError: the value does not have this type.

    >>> typed(dict[str, tuple[float, float]], {"lr": [0.1, 1]}, "space")
    {'lr': (0.1, 1)}
    >>> typed(list[float], [0.1, None], "norm")
    Traceback (most recent call last):
    ValueError: norm[1] is None, expected a number
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        [some] = (arg for arg in args if arg is not NoneType)
        return None if value is None else typed(some, value, name)
    if origin is list:
        return _list(args[0], value, name)
    if origin is tuple:
        right = isinstance(value, list) and len(value) == len(args)
        _expect(right, name, value, f"a list of {len(args)}")
        parts = enumerate(zip(args, value, strict=True))
        return tuple(typed(arg, x, f"{name}[{i}]") for i, (arg, x) in parts)
    if origin is dict:
        _expect(isinstance(value, dict), name, value, "an object")
        return {key: typed(args[1], x, f"{name}.{key}") for key, x in value.items()}
    if is_typeddict(hint) or hasattr(hint, "_fields"):
        return _fields(hint, value, name)
    return _scalar(hint, value, name)


def _list(hint: Any, value: Any, name: str) -> list[Any]:
    _expect(isinstance(value, list), name, value, "a list")
    if hint is float and set(map(type, value)) == {float}:
        return value  # fast for millions of numbers
    return [typed(hint, x, f"{name}[{i}]") for i, x in enumerate(value)]


def _fields(hint: Any, value: Any, name: str) -> Any:
    """A NamedTuple, which refuses unknown fields, or the dict of a TypedDict, which keeps them."""
    _expect(isinstance(value, dict), name, value, "an object")
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


def _scalar(hint: Any, value: Any, name: str) -> Any:
    if hint is Any:
        return value
    right = type(value) is hint or (hint is float and type(value) is int)
    _expect(right, name, value, NAMES[hint])
    small = type(value) is not int or abs(value) < LARGEST_INT
    _expect(small, name, value, f"{NAMES[hint]} below {LARGEST_INT:.1e}")
    return value


def _expect(right: bool, name: str, value: Any, expected: str) -> None:
    if not right:
        raise ValueError(f"{name} is {quoted(value)}, expected {expected}")
