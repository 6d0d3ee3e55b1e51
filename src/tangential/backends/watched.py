"""What the gate saw of a batch of weights: the moments of a step, for whoever watches it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from tangential import maths
from tangential.backends.table import Table


class StepSums(NamedTuple):
    """Inner products per unit [units of all weights] before a step, and what was decided.

    The step is w <- (1 - lr decay damp) w - lr (u - c w), by `maths.damp` and `maths.coef`.
    """

    params: list[Tensor]
    table: Table
    moments: maths.Moments
    uu: Tensor
    gate: maths.Gate
    group: dict[str, Any]  # options, as backends take them


Watch = Callable[[StepSums], None]


class Watchers(tuple[Watch, ...]):
    """Several watchers of one optimizer, told in turn."""

    def __call__(self, seen: StepSums) -> None:
        """Tell every watcher."""
        for watch in self:
            watch(seen)


def with_watcher(watch: Watch | None, added: Watch) -> Watch:
    """What tells `added` and whoever is told already."""
    return Watchers((*_each(watch), added))


def without_watcher(watch: Watch | None, removed: Watch) -> Watch | None:
    """What tells all others; None if there are none."""
    return Watchers(each for each in _each(watch) if each != removed) or None


def _each(watch: Watch | None) -> tuple[Watch, ...]:
    if watch is None:
        return ()
    return watch if isinstance(watch, Watchers) else (watch,)
