"""The record of a trial, as the database holds it: compressed JSON, checked when it is read."""

import base64
import json
import math
import zlib
from typing import Any, NotRequired, TypedDict

from tangential_lab.studies.typed_json import parse_json, quoted


class CurveColumns(TypedDict):
    """Values of the logged steps; without scale-invariant weights, there are no means over them."""

    step: list[int]
    loss: list[float]
    lr: list[float]
    norm: NotRequired[list[float]]
    effective_step: NotRequired[list[float]]
    angle_rad: NotRequired[list[float]]
    growth_step: NotRequired[list[float]]
    growth_memory: NotRequired[list[float]]
    growth_decay: NotRequired[list[float]]


class LayerColumns(TypedDict):
    """Norms and effective steps of every layer, one row per logged step."""

    step: list[int]
    names: list[str]
    norm: list[list[float]]
    effective_step: list[list[float]]


class ScoreColumns(TypedDict):
    """The scores during a trial."""

    step: list[int]
    time_s: list[float]
    score: list[float]


class Provenance(TypedDict):
    """How a record was made. Other keys are shown as they are."""

    time: str


class TrialRecord(TypedDict):
    """The results of a trial."""

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
    scores: ScoreColumns
    curves: CurveColumns
    layers: LayerColumns | None
    angles: NotRequired[str | None]  # as `training.recorded_angles` reads them
    provenance: Provenance


def encode_record(record: dict[str, Any]) -> str:
    """A record as text for a database."""
    return base64.b85encode(zlib.compress(json.dumps(record).encode())).decode()


def decode_record(text: Any) -> dict[str, Any]:
    """The record that `encode_record` encoded; ValueError as in `parse_record`."""
    if not isinstance(text, str):
        raise ValueError(f"its record is {quoted(text)}, expected text")
    try:
        return parse_record(zlib.decompress(base64.b85decode(text)))
    except zlib.error as error:
        raise ValueError(f"its record is damaged: {error}") from error


def parse_record(text: str | bytes) -> dict[str, Any]:
    """The record of a trial, from JSON; ValueError if it has a value that no trial can have."""
    record = parse_json(TrialRecord, text, "record")
    for name in ("score", "step_s", "optimizer_s"):
        if not math.isfinite(record[name]):
            raise ValueError(f"record.{name} is {record[name]}, expected a finite number")
    layers = dict(record["layers"] or {})
    names = layers.pop("names", [])
    rows = [*layers.get("norm", []), *layers.get("effective_step", [])]
    if any(len(row) != len(names) for row in rows):
        raise ValueError("record.layers has rows that do not match its names")
    tables = {"scores": record["scores"], "curves": record["curves"], "layers": layers}
    for name, columns in tables.items():
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError(f"record.{name} has columns of different lengths")
    return record
