"""Measurements of a trial: curves over its logged steps, and the seconds per part of its work."""

import math
import time
from collections.abc import Iterable, Mapping

from tangential_lab.training.task import Record

MEAN_COLUMNS = (
    *("norm", "effective_step", "angle_rad"),
    *("growth_step", "growth_memory", "growth_decay"),
)
COLUMNS = ("step", "loss", "lr")
LAYERS = ("norm", "effective_step")
SIGNIFICANT_DIGITS = 6
CLOCK_PARTS = ("forward", "backward", "step", "evaluation", "other")


class Curves:
    """Loss, learning rate, and means over the scale-invariant weights, per logged step.

    Args:
        names: Names of the scale-invariant weights, in the order of the model. If there are
            none, there are no means: other norms say nothing about effective steps.
        layers: Also keep the values of every weight.
    """

    weights = True  # asks the monitor for the values of every weight

    def __init__(self, names: Iterable[str], *, layers: bool) -> None:
        self.names = list(names)
        self.mean_columns = MEAN_COLUMNS if self.names else ()
        self.columns: dict[str, list[float]] = {name: [] for name in (*COLUMNS, *self.mean_columns)}
        self.layers: dict[str, list[list[float]]] = {
            name: [] for name in LAYERS if layers and self.names
        }
        self._forget()

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Receive the monitor's values of a step."""
        by_column = {
            column: [values.get(f"{name}/{column}", math.nan) for name in self.names]
            for column in self.mean_columns
        }
        self.means = {column: _mean(row) for column, row in by_column.items()}
        self.rows = {column: [_rounded(x) for x in by_column[column]] for column in self.layers}

    def _forget(self) -> None:
        """Forget the last values: the gradient scaler may skip the next logged step."""
        self.means = dict.fromkeys(self.mean_columns, math.nan)
        self.rows = {column: [math.nan] * len(self.names) for column in self.layers}

    def add(self, step: int, loss: float, lr: float) -> None:
        """Append a logged step, with the monitor's values since the last one."""
        values = {"step": step, "loss": loss, "lr": lr, **self.means}
        for column, value in values.items():
            self.columns[column].append(_rounded(value))
        for column, row in self.rows.items():
            self.layers[column].append(row)
        self._forget()

    def last(self, column: str) -> float:
        """The last logged value that is finite."""
        return next((x for x in reversed(self.columns[column]) if math.isfinite(x)), math.nan)

    def record(self) -> Record:
        """The part of a trial's record that comes from curves; None where nothing is known."""
        summary: Record = dict.fromkeys(("norm", "effective_step", "memory_share"))
        if self.names:
            step, memory = (_mean(self.columns[f"growth_{cause}"]) for cause in ("step", "memory"))
            summary = {
                "norm": self.last("norm"),
                "effective_step": _mean(self.columns["effective_step"]),
                # of the norms' growth without decay, the share that momentum causes
                "memory_share": memory / (memory + step) if memory + step > 0 else math.nan,
            }
        layers = {"step": self.columns["step"], "names": self.names, **self.layers}
        return {**summary, "curves": self.columns, "layers": layers if self.layers else None}


class Clock:
    """Measures the seconds spent in each part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(CLOCK_PARTS, 0.0)
        self.last_lap = time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the seconds since the last lap to `part`."""
        now = time.perf_counter()
        self.seconds[part] += now - self.last_lap
        self.last_lap = now


def _mean(values: Iterable[float]) -> float:
    known = [x for x in values if math.isfinite(x)]
    return math.fsum(known) / len(known) if known else math.nan


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
