"""A run as its monitor logged it: columns of numbers for each label, and how weights change."""

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tangential.monitor.columns import ratio
from tangential.monitor.sinks.csv_file import read_csv
from tangential.monitor.sinks.parquet_folder import read_parquet
from tangential.monitor.sinks.rows import AGGREGATES, Row

WARM_UP = 20  # first steps, which are left out: the optimizer's averages still warm up
SHARE = 10  # the first and the last tenth of logs are compared, by their medians
MIN_LOGS = 4  # logs of a weight after the warm-up: fewer do not show how it changes
MOSTLY = 0.5  # share of logs: if the gate fires in more, the weight counts as scale-invariant

# what criteria, figures and plots look at
COLUMNS = (
    *("norm", "grad_norm", "cosine", "effective_step", "angle_rad", "growth_step"),
    *("growth_memory", "growth_decay", "gate_row", "gate_weight", "lr", "equilibrium_rad"),
    *("steps_to_equilibrium", "invariant", "frozen_norms", "frozen"),
)

Rows = Iterable[Mapping[str, Any]]


class Trend(NamedTuple):
    """How a scale-invariant weight changes: medians over its first and its last tenth of logs."""

    since: int  # first step of the first tenth, after the warm-up
    first: dict[str, float]  # by column
    last: dict[str, float]

    def fall(self, column: str) -> float:
        """First value over last value."""
        return ratio(self.first[column], self.last[column])


class Log:
    """What was logged for one label: a table of numbers [steps, COLUMNS], NaN where there is none.

    A run may have millions of rows; dictionaries would need ten times the memory. A logged norm
    that is not finite is stored as infinity.
    """

    def __init__(self) -> None:
        self.steps, self.table = array("q"), array("d")

    def __getitem__(self, column: str) -> "array[float]":
        return self.table[COLUMNS.index(column) :: len(COLUMNS)]

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Append a row."""
        cells = [math.nan if row.get(name) is None else float(row[name]) for name in COLUMNS]
        if row.get("norm") is not None and not math.isfinite(cells[0]):
            cells[0] = math.inf
        self.steps.append(step)
        self.table.extend(cells)

    def sort(self) -> None:
        """Order the rows by step; if a step was logged twice, the last row counts."""
        if any(b <= a for a, b in pairwise(self.steps)):
            width, places = len(COLUMNS), {step: i for i, step in enumerate(self.steps)}
            table, self.table, self.steps = self.table, array("d"), array("q", sorted(places))
            for step in self.steps:
                self.table += table[places[step] * width : (places[step] + 1) * width]

    def has(self, name: str) -> bool:
        """Whether a column was ever logged."""
        return any(x == x for x in self[name])

    def steps_where(self, name: str, holds: Callable[[float], bool]) -> list[int]:
        """The steps at which `holds` is true for a column's value."""
        return [step for step, x in zip(self.steps, self[name], strict=True) if holds(x)]

    def fired(self) -> list[bool]:
        """Where the gate fired, or the published gate would have [steps]."""
        pairs = zip(self["gate_row"], self["gate_weight"], strict=True)
        return [row > 0 or weight > 0 for row, weight in pairs]

    @property
    def fired_share(self) -> float:
        """Share of the logs with a gradient in which the gate fired."""
        pairs = zip(self["grad_norm"], self.fired(), strict=True)
        with_grad = [fires for grad_norm, fires in pairs if grad_norm > 0]
        return sum(with_grad) / len(with_grad) if with_grad else 0.0

    def trend(self, begin: int) -> Trend | None:
        """The trend of a weight, from step `begin` on; None if too few logs show it moving."""
        rows = enumerate(zip(self.steps, self["lr"], self["angle_rad"], strict=True))
        moved = [i for i, (step, lr, angle) in rows if step >= begin and lr > 0 and angle > 0]
        if len(moved) < MIN_LOGS:
            return None
        count = max(1, len(moved) // SHARE)
        return Trend(
            self.steps[moved[0]], self._medians(moved[:count]), self._medians(moved[-count:])
        )

    def _medians(self, places: list[int]) -> dict[str, float]:
        columns = {name: self[name] for name in COLUMNS}
        return {n: finite_median(column[i] for i in places) for n, column in columns.items()}


@dataclass(frozen=True)
class Run:
    """One monitored training: its name and its logs by label."""

    name: str
    logs: dict[str, Log]

    @cached_property
    def steps(self) -> list[int]:
        """The steps that were logged, in order."""
        return sorted({step for log in self.logs.values() for step in log.steps})

    @property
    def length(self) -> int:
        """Steps from the first to the last log."""
        return self.steps[-1] - self.steps[0]

    @property
    def means(self) -> Log:
        """The log of the means over all matrices."""
        return self.logs.get("all", Log())

    @cached_property
    def weights(self) -> dict[str, Log]:
        """The logs of weights."""
        logs = self.logs.items()
        return {label: log for label, log in logs if label not in AGGREGATES and log.has("norm")}

    @cached_property
    def audited(self) -> bool:
        """Whether an audit says which weights are scale-invariant."""
        return any(log.has("invariant") for log in self.weights.values())

    @cached_property
    def invariant(self) -> list[str]:
        """Scale-invariant weights: the audit's, or else those on which the gate mostly fires."""
        if self.audited:
            return [name for name, log in self.weights.items() if log["invariant"][-1] == 1]
        return [name for name, log in self.weights.items() if log.fired_share > MOSTLY]

    @cached_property
    def trends(self) -> dict[str, Trend]:
        """The trends of scale-invariant weights for which enough logs show how they move."""
        begin = self.steps[0] + WARM_UP
        trends = {name: self.weights[name].trend(begin) for name in self.invariant}
        return {name: trend for name, trend in trends.items() if trend}

    @property
    def since(self) -> int:
        """The first step of any trend."""
        return min(trend.since for trend in self.trends.values())

    def fall(self, column: str) -> float:
        """The median ratio of a column's first value to its last."""
        return self.median(lambda trend: trend.fall(column))

    def median(self, figure: Callable[[Trend], float]) -> float:
        """Median over the scale-invariant weights; NaN if none has the figure."""
        return finite_median(map(figure, self.trends.values()))


def finite_median(values: Iterable[float]) -> float:
    """Median of the finite values; NaN if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def load(run: str | Path | Rows) -> Run:
    """Load a run from its file or folder, or from rows as in `sinks.memory`.

    Args:
        run: A path, or mappings with "step", "label" and columns; None means not logged.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: it was not written by a monitor, or has no row.

    >>> list(load([{"step": 0, "label": "all", "norm": 2.0}]).steps)
    [0]
    """
    name = str(run) if isinstance(run, (str, Path)) else "the run"
    logs: dict[str, Log] = defaultdict(Log)
    for row in read(run) if isinstance(run, (str, Path)) else run:
        try:
            step, label = int(row["step"]), row["label"]
            if label is None:
                raise ValueError
            logs[str(label)].add(step, row)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise ValueError(
                f"{name} has the row {row!r:.200}: a row needs a step, a label, and numbers"
            ) from None
    if not logs:
        raise ValueError(f"{name} is empty: a run needs at least one log")
    for log in logs.values():
        log.sort()
    return Run(name, logs)


def read(path: str | Path) -> Iterator[Row]:
    """Read the rows of a monitor's CSV file or of its folder of Parquet files, one by one."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"No such file: {path}. Pass a file written by Monitor, or its folder of Parquet files"
        )
    return read_parquet(path) if path.is_dir() else read_csv(path)
