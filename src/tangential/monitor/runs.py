"""A run as a monitor has logged it: lines by label, and what they come to."""

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, repeat
from pathlib import Path
from statistics import median
from typing import Any

from tangential.monitor.files import stream
from tangential.monitor.lines import AGGREGATES

WARM_UP = 20  # first steps that are left out: averages of the optimizer still fill
SHARE = 10  # the first and the last tenth of logs are compared, by their medians
MIN_LOGS = 4  # of a weight after warming up, to say how it changes
MOSTLY = 0.5  # of logs: where the gate fires more often, it takes a weight for scale-invariant

# the columns that criteria and figures look at
KEPT = (
    *("norm", "grad_norm", "cosine", "effective_step", "angle_rad", "growth_step"),
    *("growth_memory", "gate_row", "gate_weight", "lr", "equilibrium_rad"),
    *("steps_to_equilibrium", "invariant", "frozen_norms", "frozen"),
)

Columns = dict[str, float]
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Course:
    """How a scale-invariant weight has fared: medians over its first and last tenth of logs.

    Attributes:
        since: First step of the first tenth, after warming up.
        first: By column.
        last: By column.
    """

    since: int
    first: Columns
    last: Columns

    def fall(self, column: str) -> float:
        """First over last."""
        return ratio(self.first[column], self.last[column])


class Log:
    """What was logged of a label: columns of numbers by step, NaN where there is none.

    A run may have millions of rows, which as dictionaries would take ten times the memory.

    Attributes:
        steps: In ascending order.
    """

    def __init__(self) -> None:
        self.steps = array("q")
        self._lost: set[int] = set()
        self.columns: dict[str, array[float]] = {}

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Append a row."""
        for name in KEPT:
            if row.get(name) is not None:
                self.columns.setdefault(name, array("d"))
                self.column(name).append(float(row[name]))
        self.steps.append(step)
        norm = row.get("norm")
        if norm is not None and not math.isfinite(norm):
            self._lost.add(step)
        else:
            self._lost.discard(step)  # the run was resumed before it, and logged it again

    @property
    def lost(self) -> int | None:
        """The first step in which the norm is not finite."""
        return min(self._lost, default=None)

    def column(self, name: str) -> "array[float]":
        """The numbers of a column [steps], one of `KEPT`."""
        column = self.columns.get(name, array("d"))
        column.extend(repeat(math.nan, len(self.steps) - len(column)))
        return column

    def settle(self) -> "Log":
        """Put the steps in order; of those with one number the last row counts."""
        if any(b <= a for a, b in pairwise(self.steps)):
            places = sorted({step: i for i, step in enumerate(self.steps)}.items())
            columns = {name: self.column(name) for name in self.columns}
            self.columns = {k: array("d", (x[i] for _, i in places)) for k, x in columns.items()}
            self.steps = array("q", (step for step, _ in places))
        return self

    def has(self, name: str) -> bool:
        """Whether a column was ever logged."""
        return any(x == x for x in self.column(name))


@dataclass(frozen=True)
class Run:
    """What was logged, by label."""

    name: str
    logs: dict[str, Log]

    @cached_property
    def steps(self) -> list[int]:
        """The steps that were logged, in order."""
        return sorted({step for log in self.logs.values() for step in log.steps})

    @cached_property
    def weights(self) -> dict[str, Log]:
        """The logs of weights."""
        return {
            label: log
            for label, log in self.logs.items()
            if label not in AGGREGATES and (log.lost is not None or log.has("norm"))
        }

    @cached_property
    def audited(self) -> bool:
        """Whether an audit says which weights are scale-invariant."""
        return any(log.has("invariant") for log in self.weights.values())

    @cached_property
    def invariant(self) -> list[str]:
        """Scale-invariant weights: the audit's, or else those where the gate fires mostly."""
        if self.audited:
            return [k for k, log in self.weights.items() if log.column("invariant")[-1] == 1]
        return [name for name in self.weights if self.fired(name) > MOSTLY]

    def fired(self, name: str) -> float:
        """Share of a weight's logs with a gradient in which the gate fired."""
        log = self.weights[name]
        seen = [
            fires for g, fires in zip(log.column("grad_norm"), fired(log), strict=True) if g > 0
        ]
        return sum(seen) / len(seen) if seen else 0.0

    @cached_property
    def courses(self) -> dict[str, Course]:
        """Of the scale-invariant weights with enough logs in which they moved."""
        found = {name: _course(self.weights[name], self.steps[0]) for name in self.invariant}
        return {name: course for name, course in found.items() if course}

    @cached_property
    def frozen(self) -> dict[str, list[int]]:
        """The steps in which a normalisation was frozen, by name."""
        found = {
            name: [s for s, x in zip(log.steps, log.column("frozen"), strict=True) if x > 0]
            for name, log in self.logs.items()
        }
        return {name: steps for name, steps in found.items() if steps}

    @cached_property
    def lost(self) -> dict[str, int]:
        """The first step in which the norm of a weight is not finite, by name."""
        return {k: log.lost for k, log in self.weights.items() if log.lost is not None}

    def over(self, figure: Callable[[Course], float]) -> float:
        """Median over the scale-invariant weights; NaN where none has the figure."""
        return middle(figure(course) for course in self.courses.values())


def fired(log: Log) -> list[bool]:
    """Where the gate fired, or the published one would have [steps]."""
    pairs = zip(log.column("gate_row"), log.column("gate_weight"), strict=True)
    return [row > 0 or weight > 0 for row, weight in pairs]


def middle(values: Iterable[float]) -> float:
    """Median of the finite values; NaN of none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def ratio(x: float, y: float) -> float:
    """X / y; NaN where y is zero."""
    return x / y if y else math.nan


def load(run: str | Path | Rows) -> Run:
    """A run from its file or folder, or from rows as `sinks.memory` has them.

    Args:
        run: A path, or mappings with "step", "label" and columns; None and absent is not logged.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no monitor's, or has no line.

    >>> list(load([{"step": 0, "label": "all", "norm": 2.0}]).steps)
    [0]
    """
    path = isinstance(run, (str, Path))
    name = str(run) if path else "the run"
    logs: dict[str, Log] = defaultdict(Log)
    for row in stream(run) if path else run:
        try:
            step, label = int(row["step"]), row["label"]
            if label is None:
                raise ValueError
            logs[str(label)].add(step, row)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise ValueError(
                f"{name} has a row {row!r:.200}, allowed is one with step and label, and numbers"
            ) from None
    if not logs:
        raise ValueError(f"{name} is empty, allowed is a run with at least one log")
    return Run(name, {label: log.settle() for label, log in logs.items()})


def _course(log: Log, begin: int) -> Course | None:
    """Without the logs in which a weight cannot move, at lr 0, or did not."""
    rows = zip(log.steps, log.column("lr"), log.column("angle_rad"), strict=True)
    moved = [
        place
        for place, (step, lr, angle) in enumerate(rows)
        if step >= begin + WARM_UP and lr > 0 and angle > 0
    ]
    if len(moved) < MIN_LOGS:
        return None
    count = max(1, len(moved) // SHARE)
    first, last = (_middles(log, places) for places in (moved[:count], moved[-count:]))
    return Course(log.steps[moved[0]], first, last)


def _middles(log: Log, places: list[int]) -> Columns:
    columns = {name: log.column(name) for name in KEPT}
    return {name: middle(column[i] for i in places) for name, column in columns.items()}
