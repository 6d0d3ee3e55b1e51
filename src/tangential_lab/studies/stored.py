"""What a database holds, checked against type hints: others may have changed it."""

import base64
import json
import math
import zlib
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from tangential_lab.errors import shorten

SHOWN = 80  # characters of a wrong value
LARGEST_INT = 2**63
NAMES = {float: "a number", int: "an integer", str: "a string", bool: "true or false"}


class Layers(TypedDict):
    """Norms and effective steps of every layer, one row per logged step."""

    step: list[int]
    names: list[str]
    norm: list[list[float]]
    effective_step: list[list[float]]


class Mechanism(TypedDict, total=False):
    """Means over the scale-invariant weights; missing where there are none."""

    norm: list[float]
    effective_step: list[float]
    angle_rad: list[float]
    growth_step: list[float]
    growth_memory: list[float]
    growth_decay: list[float]


class Curves(Mechanism):
    """What is known of the logged steps."""

    step: list[int]
    loss: list[float]
    lr: list[float]


class Scores(TypedDict):
    """The score along a trial."""

    step: list[int]
    time_s: list[float]
    score: list[float]


class Provenance(TypedDict):
    """How a record was made; the other keys are shown as they are."""

    time: str


class TrialRecord(TypedDict):
    """The record of a trial."""

    score: float
    metrics: dict[str, float]
    loss: float
    diverged: bool
    steps: int
    norm: float | None
    effective_step: float | None
    memory_share: float | None
    step_s: float
    optimizer_s: float
    seconds: dict[str, float]
    scores: Scores
    curves: Curves
    layers: Layers | None
    provenance: Provenance


class Settings(TypedDict):
    """What a worker must know of a plan's settings."""

    precision: str
    threads: int
    sharded: bool
    versions: dict[str, str]
    source: str


class Owner(TypedDict):
    """The process that runs a trial."""

    machine: str
    pid: int
    since: float


def encode_record(record: dict[str, Any]) -> str:
    """A record as text for a database."""
    return base64.b85encode(zlib.compress(json.dumps(record).encode())).decode()


def decode_record(text: Any) -> dict[str, Any]:
    """The record that was packed.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str):
        raise ValueError(f"its record is {shorten(repr(text), SHOWN)}, expected text")
    try:
        return parse_record(zlib.decompress(base64.b85decode(text)))
    except zlib.error as error:
        raise ValueError(f"its record is damaged: {error}") from error


def parse_owner(value: Any) -> dict[str, Any] | None:
    """Who runs a trial, or None where the database does not say."""
    with suppress(ValueError):
        return typed(Owner, value, "owner")
    return None


def parse_record(text: str | bytes) -> dict[str, Any]:
    """The record of a trial, from JSON.

    Raises:
        ValueError: a field is missing, or has a value that no trial can have.
    """
    record = typed(TrialRecord, parse_json(text), "record")
    for name in ("score", "step_s", "optimizer_s"):
        if not math.isfinite(record[name]):
            raise ValueError(f"record.{name} is {record[name]}, expected a finite number")
    tables = {"scores": record["scores"], "curves": record["curves"]}
    if record["layers"]:
        tables["layers"] = {k: v for k, v in record["layers"].items() if k != "names"}
        widths = {len(row) for k in ("norm", "effective_step") for row in record["layers"][k]}
        if not widths <= {len(record["layers"]["names"])}:
            raise ValueError("record.layers has rows that do not match its names")
    for name, columns in tables.items():
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError(f"record.{name} has columns of different lengths")
    return record


def parse_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text)
    except (RecursionError, TypeError) as error:
        raise ValueError(f"{shorten(repr(text), SHOWN)} is not JSON") from error


def typed(hint: Any, value: Any, name: str) -> Any:
    """A value from JSON as the type of a hint; dicts become the NamedTuples that it asks for.

    Args:
        hint: Any, a scalar, a list, dict, tuple, TypedDict or NamedTuple of such, or None as well.
        value: From JSON.
        name: Of the value, for the error.

    Raises:
        ValueError: it is not of that type.

    >>> structured(dict[str, tuple[float, float]], {"lr": [0.1, 1]}, "space")
    {'lr': (0.1, 1)}
    >>> structured(list[float], [0.1, None], "norm")
    Traceback (most recent call last):
    ValueError: norm[1] is None, expected a number
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        [some] = (one for one in args if one is not NoneType)
        return None if value is None else typed(some, value, name)
    if origin is list:
        _expect(isinstance(value, list), name, value, "a list")
        if args == (float,) and set(map(type, value)) == {float}:
            return value  # millions of numbers
        return [typed(args[0], x, f"{name}[{i}]") for i, x in enumerate(value)]
    if origin is tuple:
        right = isinstance(value, list) and len(value) == len(args)
        _expect(right, name, value, f"a list of {len(args)}")
        parts = zip(args, value, strict=True)
        return tuple(typed(one, x, f"{name}[{i}]") for i, (one, x) in enumerate(parts))
    if origin is dict:
        _expect(isinstance(value, dict), name, value, "an object")
        return {key: typed(args[1], x, f"{name}.{key}") for key, x in value.items()}
    if is_typeddict(hint) or hasattr(hint, "_fields"):
        return _fields(hint, value, name)
    return _scalar(hint, value, name)


def _fields(hint: Any, value: Any, name: str) -> Any:
    """A NamedTuple, which may not have other fields, or the dict of a TypedDict, which may."""
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
            raise ValueError(f"{name} has an unknown field {shorten(repr(key), SHOWN)}")
    return hint(**known)


def _scalar(hint: Any, value: Any, name: str) -> Any:
    if hint is Any:
        return value
    right = type(value) is hint or (hint is float and type(value) is int)
    _expect(right, name, value, NAMES[hint])
    small = type(value) is not int or abs(value) < LARGEST_INT
    _expect(small, name, value, f"{NAMES[hint]} below {LARGEST_INT:.1e}")
    return value


def _expect(right: bool, name: str, value: Any, what: str) -> None:
    if not right:
        raise ValueError(f"{name} is {shorten(repr(value), SHOWN)}, expected {what}")
