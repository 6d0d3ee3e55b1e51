"""The units of many weights in one table; and the sums of a step, for a monitor."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.batch import StepOptions
from tangential.backends.dots import Arrays, dots
from tangential.backends.rows import Rows, ordered_sum
from tangential.backends.sharded import added_up


class Table:
    """The units of several weights, concatenated [units of all].

    All weights have the same device, dtype and shard groups.
    """

    def __init__(self, rows: list[Rows], like: Tensor) -> None:
        self.rows, self.like, self.shard_groups = rows, like, rows[0].shard_groups
        if len(rows) == 1:
            self.unit_size, self.size = rows[0].unit_size, rows[0].size
        else:
            sizes = tuple((r.units, r.unit_size, r.size) for r in rows)
            self.unit_size, self.size, self.owner, self.units = _columns(
                sizes, like.device, like.dtype
            )

    def dots(self, arrays: Arrays, products: list[str]) -> list[Tensor]:
        """Inner products per unit [units of all], as `dots.dots` returns them."""
        return dots(self.rows, arrays, products, self.like)

    def spread(self, values: Tensor) -> list[Tensor]:
        """One value per unit, shaped to broadcast over the weights."""
        parts = values.split([r.units for r in self.rows])
        return [r.spread(part) for r, part in zip(self.rows, parts, strict=True)]

    def of_weights(self, values: Tensor) -> Tensor:
        """Values per weight [weights, ...], repeated for every unit [units of all, ...]."""
        if len(self.rows) == 1:
            return values.expand(self.rows[0].units, *values.shape[1:])
        return values[self.owner]

    def totals(self, values: list[Tensor]) -> Tensor:
        """The sums [weights, values] of some values [units of all], over local units."""
        if len(self.rows) == 1:
            return torch.stack([ordered_sum(value) for value in values]).unsqueeze(0)
        stacked = torch.stack(values, dim=1)
        return torch.segment_reduce(stacked, "sum", lengths=self.units, unsafe=True)

    def total(self, values: Tensor) -> Tensor:
        """The sum over the units of the same weight on all processes, for every unit."""
        sums = self.totals([values]).view(-1)
        return self.of_weights(added_up(sums, self.shard_groups.units))


# One entry per batch of each parameter group; an entry is as long as the rows of its weights.
@lru_cache(maxsize=1024)
def _columns(
    sizes: tuple[tuple[int, int, int], ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fan, size and owner of every unit [units of all]; number of units per weight [weights].

    Created on the CPU and copied without waiting for the device.
    """
    units, unit_size, size = torch.tensor(sizes, device="cpu").unbind(1)
    owner = torch.arange(len(sizes), device="cpu").repeat_interleave(units)
    columns = unit_size.to(dtype)[owner], size.to(dtype)[owner], owner, units
    unit_size, size, owner, units = (x.to(device, non_blocking=True) for x in columns)
    return unit_size, size, owner, units


class StepSums(NamedTuple):
    """Inner products per unit [units of all weights] before a step, and the gate's decisions.

    The step is w <- (1 - lr decay damp) w - lr (u - c w), by `maths.damp` and `maths.coef`.
    """

    params: list[Tensor]
    table: Table
    moments: maths.Moments
    uu: Tensor
    gate: maths.Gate
    options: StepOptions


ROW, WEIGHT = 1, 2  # a kernel's decisions


def step_sums(
    params: list[Tensor],
    rows: list[Rows],
    sums: Tensor,
    decisions: Tensor,
    options: StepOptions,
) -> StepSums:
    """The sums of weights that a kernel has stepped.

    Args:
        params: The weights that the gate has judged.
        rows: Their units.
        sums: ww, gg, gw, uw and uu of every unit [units of all, 5].
        decisions: The gate's decision about every weight [weights].
        options: The options of their group.
    """
    table = Table(rows, sums)
    decision = table.of_weights(decisions)
    gate = maths.Gate(decision == ROW, decision == WEIGHT)
    *moments, uu = sums.unbind(1)
    return StepSums(params, table, maths.Moments(*moments), uu, gate, options)


Watch = Callable[[StepSums], None]


class Watchers(tuple[Watch, ...]):
    """Several watchers of one optimizer, called in turn."""

    def __call__(self, sums: StepSums) -> None:
        """Call every watcher."""
        for watch in self:
            watch(sums)


def with_watcher(watch: Watch | None, added: Watch) -> Watch:
    """A watcher that calls `watch`, if there is one, and then `added`."""
    return Watchers((*_each(watch), added))


def without_watcher(watch: Watch | None, removed: Watch) -> Watch | None:
    """`watch` without `removed`; None if no watcher is left."""
    return Watchers(each for each in _each(watch) if each != removed) or None


def _each(watch: Watch | None) -> tuple[Watch, ...]:
    if watch is None:
        return ()
    return watch if isinstance(watch, Watchers) else (watch,)
