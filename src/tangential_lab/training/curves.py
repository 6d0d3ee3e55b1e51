"""What a trial logs along the way: a sink of the monitor."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

MEAN_COLUMNS = (
    *("norm", "effective_step", "angle_rad"),
    *("growth_step", "growth_memory", "growth_decay"),
)
COLUMNS = ("step", "loss", "lr")
LAYERS = ("norm", "effective_step")
DIGITS = 6  # significant ones are kept


class Curves:
    """Means over the scale-invariant weights, and layers.

    Args:
        names: Of the weights that are averaged, in the order of the model. Without any there are
            no means: norms of other weights say nothing about effective steps.
        layers: Keep every one of them, too.
    """

    weights = True  # asks the monitor for a line for every weight

    def __init__(self, names: Iterable[str], *, layers: bool) -> None:
        self.names = list(names)
        self.means_of = MEAN_COLUMNS if self.names else ()
        self.columns: dict[str, list[float]] = {name: [] for name in (*COLUMNS, *self.means_of)}
        self.layers: dict[str, list[list[float]]] = {
            name: [] for name in LAYERS if layers and self.names
        }
        self._forget()

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Take what the monitor says of a step."""
        lines = {c: [values.get(f"{n}/{c}", math.nan) for n in self.names] for c in self.means_of}
        self.means = {column: _mean(line) for column, line in lines.items()}
        self.rows = {column: [_short(x) for x in lines[column]] for column in self.layers}

    def _forget(self) -> None:
        """Know nothing of the next logged step, which a scaler may skip."""
        self.means = dict.fromkeys(self.means_of, math.nan)
        self.rows = {column: [math.nan] * len(self.names) for column in self.layers}

    def add(self, step: int, loss: float, lr: float) -> None:
        """Append a logged step, with what the monitor has told since the last."""
        values = {"step": step, "loss": loss, "lr": lr, **self.means}
        for column, value in values.items():
            self.columns[column].append(_short(value))
        for column, row in self.rows.items():
            self.layers[column].append(row)
        self._forget()

    def mean(self, column: str) -> float:
        """The mean over the logged steps."""
        return _mean(self.columns[column])

    def last(self, column: str) -> float:
        """The last logged value."""
        return next((x for x in reversed(self.columns[column]) if math.isfinite(x)), math.nan)

    def memory_share(self) -> float:
        """The share of the norms' growth, decay apart, that is momentum's memory; NaN without."""
        memory, step = self.mean("growth_memory"), self.mean("growth_step")
        return memory / (memory + step) if memory + step > 0 else math.nan

    def state(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint."""
        return {"columns": self.columns, "layers": self.layers}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.columns, self.layers = state["columns"], state["layers"]

    def record(self) -> dict[str, Any]:
        """The mechanism, `curves` and `layers` of a trial's record; None where nothing is known."""
        means = {
            "norm": self.last("norm") if self.names else None,
            "effective_step": self.mean("effective_step") if self.names else None,
            "memory_share": self.memory_share() if self.names else None,
        }
        layers = {"step": self.columns["step"], "names": self.names, **self.layers}
        return means | {"curves": self.columns, "layers": layers if self.layers else None}


def _mean(values: Iterable[float]) -> float:
    known = [x for x in values if math.isfinite(x)]
    return math.fsum(known) / len(known) if known else math.nan


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
