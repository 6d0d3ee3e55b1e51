"""A run as a monitor has logged it: lines by label, and what they come to."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from tangential.monitoring.files import read
from tangential.monitoring.lines import AGGREGATES, COLUMNS

WARM_UP = 20  # first steps that are left out: averages of the optimizer still fill
SHARE = 10  # the first and the last tenth of logs are compared, by their medians
MIN_LOGS = 4  # of a weight after warming up, to say how it changes
MOSTLY = 0.5  # of logs: where the gate fires more often, it takes a weight for scale-invariant

KEYS = ("step", "label")

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
        return self.first[column] / self.last[column]


@dataclass(frozen=True)
class Run:
    """What was logged: the columns by label and step; not logged is not there."""

    name: str
    lines: dict[str, dict[int, Columns]]

    @cached_property
    def steps(self) -> list[int]:
        """The steps that were logged, in order."""
        return sorted({step for lines in self.lines.values() for step in lines})

    @cached_property
    def weights(self) -> dict[str, dict[int, Columns]]:
        """The lines of weights, where they were logged."""
        return {
            label: lines
            for label, lines in self.lines.items()
            if label not in AGGREGATES and any("norm" in line for line in lines.values())
        }

    @cached_property
    def audited(self) -> bool:
        """Whether an audit says which weights are scale-invariant."""
        return any("invariant" in x for lines in self.weights.values() for x in lines.values())

    @cached_property
    def invariant(self) -> list[str]:
        """Scale-invariant weights: the audit's, or else those where the gate fires mostly."""
        if self.audited:
            return [name for name, x in self.weights.items() if _last(x).get("invariant") == 1]
        return [name for name in self.weights if self.fired(name) > MOSTLY]

    def fired(self, name: str, also: Callable[[Columns], bool] = lambda line: True) -> float:
        """Share of a weight's logs with a gradient in which the gate fired, and `also`."""
        lines = [line for line in self.weights[name].values() if line.get("grad_norm", 0) > 0]
        return sum(fires(line) and also(line) for line in lines) / len(lines) if lines else 0.0

    @cached_property
    def courses(self) -> dict[str, Course]:
        """Of the scale-invariant weights with enough logs in which they moved."""
        found = {name: _course(self.weights[name], self.steps[0]) for name in self.invariant}
        return {name: course for name, course in found.items() if course}

    @cached_property
    def frozen(self) -> dict[str, list[int]]:
        """The steps in which a normalisation was frozen, by name."""
        found = {
            name: sorted(step for step, line in lines.items() if line.get("frozen"))
            for name, lines in self.lines.items()
        }
        return {name: steps for name, steps in found.items() if steps}

    @cached_property
    def lost(self) -> dict[str, int]:
        """The first step in which the norm of a weight is not finite, by name."""
        found = {}
        for name, lines in self.weights.items():
            bad = [step for step, x in lines.items() if not math.isfinite(x.get("norm", 0.0))]
            found |= {name: min(bad)} if bad else {}
        return found

    def over(self, figure: Callable[[Course], float]) -> float:
        """Median over the scale-invariant weights; NaN where none has the figure."""
        return middle(figure(course) for course in self.courses.values())


def fires(line: Columns) -> bool:
    """Whether the gate fired, or the published one would have."""
    return line.get("gate_row", 0.0) + line.get("gate_weight", 0.0) > 0


def middle(values: Iterable[float]) -> float:
    """Median of the finite values; NaN of none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def load(run: str | Path | Rows) -> Run:
    """A run from its file or folder, or from rows as `sinks.memory` has them.

    Args:
        run: A path, or mappings with "step", "label" and columns; None and absent is not logged.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no monitor's, or has no line.

    >>> load([{"step": 0, "label": "all", "norm": 2.0}]).steps
    [0]
    """
    path = isinstance(run, (str, Path))
    name = str(run) if path else "the run"
    lines: dict[str, dict[int, Columns]] = {}
    for row in read(run) if path else run:
        if any(row.get(key) is None for key in KEYS):
            raise ValueError(f"{name} has a row {dict(row)}, allowed is one with step and label")
        columns = {k: float(x) for k, x in row.items() if k not in KEYS and x is not None}
        lines.setdefault(str(row["label"]), {})[int(row["step"])] = columns
    if not lines:
        raise ValueError(f"{name} is empty, allowed is a run with at least one log")
    return Run(name, {k: dict(sorted(steps.items())) for k, steps in lines.items()})


def _last(lines: dict[int, Columns]) -> Columns:
    return lines[max(lines)]


def _course(lines: dict[int, Columns], begin: int) -> Course | None:
    """Without the logs in which a weight cannot move, at lr 0, or did not."""
    moved = [
        step
        for step, line in lines.items()
        if step >= begin + WARM_UP and line.get("lr", 0.0) > 0 and line.get("angle_rad", 0.0) > 0
    ]
    if len(moved) < MIN_LOGS:
        return None
    count = max(1, len(moved) // SHARE)
    return Course(moved[0], *(_middles(lines, part) for part in (moved[:count], moved[-count:])))


def _middles(lines: dict[int, Columns], steps: list[int]) -> Columns:
    return {name: middle(lines[s].get(name, math.nan) for s in steps) for name in COLUMNS}
