"""The data of a study as tables for other programs, CSV and Parquet.

pyarrow is imported where a table is made.
"""

import json
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from tangential.files import write_atomically
from tangential.names import FORMULA, literal
from tangential_lab.studies import Plan
from tangential_lab.training import MEAN_COLUMNS, Record, Records, Spec

MECHANISM = ("norm", "effective_step", "memory_share")  # columns about the scale-invariant weights
NUMBERS = ("score", "loss", "steps", *MECHANISM, "step_s", "optimizer_s")
RESULTS = ("score", "loss", "diverged", *NUMBERS[2:])
METRIC = "metric_{}"
SECONDS = "trial_{}_s"  # seconds of the whole trial; step_s and optimizer_s are means per step
FORMULAS = f"^[{re.escape(''.join(FORMULA))}]"
UNPREFIXED = ("lr", "weight_decay")  # settings whose columns have no prefix


def write(plan: Plan, records: Records, folder: Path) -> list[Path]:
    """Write trials, curves and evaluations as CSV and Parquet, layers as Parquet."""
    curves = [_series(plan, spec, record["curves"]) for spec, record in records.items()]
    scores = [_series(plan, spec, record["scores"]) for spec, record in records.items()]
    layers = [
        part
        for spec, record in records.items()
        if record["layers"]
        for part in _layers(plan, spec, record["layers"])
    ]
    trials = [_one_row(_trial(plan, spec, record)) for spec, record in records.items()]
    named = {"trials": trials, "curves": curves, "scores": scores}
    paths = [path for name, parts in named.items() for path in _both(parts, folder / name)]
    return paths + ([_parquet(_joined(layers), folder / "layers.parquet")] if layers else [])


def write_rows(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Write rows, which may have different columns, as CSV and Parquet."""
    return _both([_one_row(row) for row in rows], stem) if rows else []


def setting_column(axis: str) -> str:
    """The column of a setting; a prefix separates a user's settings from other columns."""
    return axis if axis in UNPREFIXED else f"space_{axis}"


def _both(parts: list[dict[str, list[Any]]], stem: Path) -> list[Path]:
    table = _joined(parts)
    return [_csv(table, stem.with_suffix(".csv")), _parquet(table, stem.with_suffix(".parquet"))]


def _identity(plan: Plan, spec: Spec) -> Record:
    """The columns that identify a trial."""
    return {
        "task": plan.task,
        "options": json.dumps(plan.options),
        "optimizer": spec.optimizer,
        "phase": spec.phase,
        "seed": spec.seed,
        **{setting_column(axis): value for axis, value in spec.point},
    }


def _trial(plan: Plan, spec: Spec, record: Record) -> Record:
    provenance = record["provenance"]
    return _merged(
        _identity(plan, spec),
        {name: record[name] for name in RESULTS if plan.invariant or name not in MECHANISM},
        {METRIC.format(name): value for name, value in record["metrics"].items()},
        {SECONDS.format(name): value for name, value in record["seconds"].items()},
        {k: json.dumps(v) if isinstance(v, dict) else v for k, v in provenance.items()},
    )


def _merged(*parts: Record) -> Record:
    """The columns of all parts; ValueError if two parts have the same column."""
    merged: Record = {}
    for part in parts:
        if twice := merged.keys() & part.keys():
            raise ValueError(f"columns {sorted(twice)} have two meanings")
        merged |= part
    return merged


def _series(plan: Plan, spec: Spec, columns: dict[str, list[float]]) -> dict[str, list[Any]]:
    size = len(columns["step"])
    named = {
        "lr_now" if name == "lr" else name: values
        for name, values in columns.items()
        if plan.invariant or name not in MEAN_COLUMNS
    }
    return _merged({name: [value] * size for name, value in _identity(plan, spec).items()}, named)


def _layers(plan: Plan, spec: Spec, layers: Record) -> Iterable[dict[str, list[Any]]]:
    """One part per layer, with one row per logged step."""
    steps = layers["step"]
    for i, name in enumerate(layers["names"]):
        yield _merged(
            {key: [value] * len(steps) for key, value in _identity(plan, spec).items()},
            {
                "layer": [name] * len(steps),
                "step": steps,
                "norm": [row[i] for row in layers["norm"]],
                "effective_step": [row[i] for row in layers["effective_step"]],
            },
        )


def _one_row(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


def _joined(parts: list[dict[str, list[Any]]]) -> Any:
    import pyarrow as pa

    return pa.concat_tables([pa.table(part) for part in parts], promote_options="permissive")


def _csv(table: Any, path: Path) -> Path:
    import pyarrow.csv

    with write_atomically(path, "wb") as file:
        pyarrow.csv.write_csv(_literal(table), file)
    return path


def _literal(table: Any) -> Any:
    """The table with names and texts that no spreadsheet reads as a formula."""
    import pyarrow as pa

    pc = import_module("pyarrow.compute")  # type checkers do not know its functions
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if pa.types.is_string(column.type):
            marked = pc.binary_join_element_wise("'", column, "")
            column = pc.if_else(pc.match_substring_regex(column, FORMULAS), marked, column)
        table = table.set_column(i, literal(name), column)
    return table


def _parquet(table: Any, path: Path) -> Path:
    import pyarrow.parquet

    with write_atomically(path, "wb") as file:
        pyarrow.parquet.write_table(table, file)
    return path
