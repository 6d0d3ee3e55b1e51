"""The inner products of a step: from the optimizer's own sums, or from copies of the weights.

Every process works on its shard of a DTensor; only sums travel between processes.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from tangential import maths
from tangential.backends import (
    Rows,
    StepSums,
    Units,
    added_up,
    as_real,
    local,
    native,
    rows_of,
    shard_groups,
    sharded,
    shards_of,
    splits_units,
    widen,
)
from tangential.monitor.motion import ADDED, Moved, added
from tangential.monitor.updates import Group, gradient_of, keep_of, update_of


class Weight(NamedTuple):
    """The label of a weight, its group in the optimizer, and the units that are measured."""

    label: str
    group: Group
    units: Units


class Sample(NamedTuple):
    """The sums of a weight [ADDED]; `judged`: whether they include the optimizer's gate."""

    param: Tensor
    sums: Tensor
    judged: bool
    units: Tensor  # the same of each unit [units, ADDED]; of a DTensor, of this process's units


def samples_of(seen: StepSums) -> list[Sample]:
    """Samples from the sums of AdamP or SGDP, whose step adds e = -lr (u - c w)."""
    options, table = seen.options, seen.table
    ww, gg, gw, uw = (x.double() for x in seen.moments)
    uu, lr = seen.uu.double(), options.lr
    c = maths.coef(torch, seen.gate, ww, uw, table.total, eps=options.eps)
    damp = maths.damp(torch, seen.gate, ww, wd_ratio=options.wd_ratio)
    we = -lr * (uw - c * ww)
    ee = lr**2 * (uu - 2 * c * uw + c * c * ww).clamp(min=0)  # radial updates cancel to rounding
    unit_size = torch.as_tensor(table.unit_size, dtype=ww.dtype, device=ww.device).expand_as(ww)
    moved = Moved(ww, gg, gw, we, ee, 1 - lr * options.decay * damp, unit_size)
    units = [rows.units for rows in table.rows]
    by_unit = added(moved, seen.gate)
    sums = added_up(_over_units(by_unit, units), table.shard_groups.units)
    each = zip(seen.params, sums, by_unit.split(units), strict=True)
    samples = [Sample(p, row, True, units) for p, row, units in each]
    return [sample for sample in samples if sample.param.grad is not None]


def _over_units(sums: Tensor, units: list[int]) -> Tensor:
    owner = _owner(units).to(sums.device)
    return sums.new_zeros(len(units), sums.shape[1]).index_add_(0, owner, sums)


def _owner(units: list[int]) -> Tensor:
    """The index of the weight of every unit, on the CPU."""
    return torch.repeat_interleave(torch.tensor(units, device="cpu"))


def samples_of_copies(
    optimizer: Optimizer, copies: dict[Tensor, Tensor], weights: dict[Tensor, Weight]
) -> list[Sample]:
    """The samples of every copied weight that has a gradient; call this after the step.

    Sharded weights without a gradient take part, because other processes may have one.

    Weights narrower than float32 are not compared with their copies: rounding may hide a whole
    step. Their update follows from the optimizer's state if its rule is known; else it is NaN.

    Args:
        optimizer: The optimizer that took the step.
        copies: The weights before the step; of a DTensor, this process's shard.
        weights: What is known about every weight.
    """
    changes = {
        p: _change(optimizer, p, before, weights[p])
        for p, before in copies.items()
        if p.grad is not None or shards_of(p)
    }
    measured = [
        p for p, x in changes.items() if x.rows.local_rows is None and native.can_measure(x)
    ]
    products: dict[Tensor, Tensor] = {}
    if measured:
        sums = native.measure([changes[p] for p in measured])
        parts = sums.split([changes[p].rows.units for p in measured])
        products = {p: part.T for p, part in zip(measured, parts, strict=True)}
    for p, change in changes.items():
        if p not in products:
            products[p] = _products(change, _added(optimizer, p, change, weights[p].group))
    sums, units = _sums_of_weights(changes, products)
    return [Sample(p, sums[p], False, units[p]) for p in changes if p.grad is not None]


def _change(
    optimizer: Optimizer, param: Tensor, before: Tensor, weight: Weight
) -> native.WeightChange:
    grad = torch.zeros_like(before) if param.grad is None else gradient_of(param)
    rows, keep = _rows(param, before, weight.units), keep_of(optimizer, weight.group)
    return native.WeightChange(before, local(param.detach()), grad, rows, weight.units, keep)


def _rows(param: Tensor, weight: Tensor, units: Units) -> Rows:
    """The units of `weight`, the local part of `param`; a vector or empty part is one unit."""
    if splits_units(param, units):
        whole = rows_of(param, units)
        assert whole is not None
        return whole
    rows = rows_of(weight, units) if weight.numel() else None
    size, axes = as_real(weight).numel(), tuple(range(as_real(weight).dim()))
    return rows or Rows(1, 1, size, size, axes, (1,) * len(axes))


def _products(change: native.WeightChange, e: Tensor) -> Tensor:
    w, g = widen(change.before), widen(change.grad)
    pairs = ((w, w), (g, g), (g, w), (w, e), (e, e))
    return torch.stack([change.rows.dot(x, y).double() for x, y in pairs])


def _added(
    optimizer: Optimizer, param: Tensor, change: native.WeightChange, group: Group
) -> Tensor:
    """What the step added to the weight: e in w+ = a w + e."""
    w = widen(change.before)
    if change.before.dtype.itemsize >= 4 or param.grad is None:
        added = widen(change.after) - w
        return added if change.keep == 1 else added.add_(w, alpha=1 - change.keep)
    update = update_of(optimizer, param, change.before, group)
    return torch.full_like(w, torch.nan) if update is None else update


def _sums_of_weights(
    changes: dict[Tensor, native.WeightChange], products: dict[Tensor, Tensor]
) -> tuple[dict[Tensor, Tensor], dict[Tensor, Tensor]]:
    """The sums of every weight [ADDED] and of its units, in one pass over all units on a device.

    Args:
        changes: What changed each weight.
        products: Inner products per unit [5, units] of this process's part of w, g and e.
    """
    groups = {p: shard_groups(p, change.units) for p, change in changes.items()}
    _add_up((products[p], groups[p].parts) for p in changes)
    sums, by_unit = {}, {}
    for params in _by_device(products):
        units = [products[p].shape[1] for p in params]
        columns = torch.cat([products[p] for p in params], dim=1)
        each = [(changes[p].keep, _unit_size(p, changes[p], groups[p])) for p in params]
        known = torch.tensor(each, dtype=columns.dtype, device="cpu")
        keep, unit_size = known[_owner(units)].T.to(columns.device)
        ww, gg, gw, we, ee = columns
        rows = added(Moved(ww, gg, gw, we, ee, keep, unit_size))
        sums |= dict(zip(params, _over_units(rows, units), strict=True))
        by_unit |= dict(zip(params, rows.split(units), strict=True))
    _add_up((sums[p], groups[p].units) for p in changes)
    return sums, by_unit


def _unit_size(param: Tensor, change: native.WeightChange, groups: sharded.ShardGroups) -> float:
    """The number of elements of a whole unit, of which a shard may have only a part."""
    size = as_real(param).numel() if groups.parts else change.rows.size
    return size / max(change.rows.units, 1)


def _add_up(sums: Iterable[tuple[Tensor, tuple[Any, ...]]]) -> None:
    """Add up each tensor over the processes of its groups, in place."""

    def task(x: Tensor, groups: tuple[Any, ...]) -> sharded.Task:
        (total,) = yield from sharded.added([x], groups)
        x.copy_(total)

    sharded.run_together(task(x, groups) for x, groups in sums)


def on_host(samples: list[Sample]) -> list[tuple[Sample, list[float]]]:
    """Each sample with its sums as floats, by one transfer from each device."""
    sums = {sample.param: sample.sums for sample in samples}
    floats = {}
    for params in _by_device(sums):
        rows = torch.stack([sums[p] for p in params]).tolist()
        floats |= dict(zip(params, rows, strict=True))
    return [(sample, floats[sample.param]) for sample in samples]


def unit_values(samples: list[Sample], weights: dict[Tensor, Weight]) -> dict[str, Tensor]:
    """Norms, effective steps and cosines "weight/column" of all units with a norm, on the CPU."""
    squares = {"norm": "ww", "effective_step": "chord2", "cosine": "cosine2"}
    values = {}
    for sample in samples:
        columns = dict(zip(ADDED, sample.units.T.cpu(), strict=True))
        for name, square in squares.items():
            column = columns[square][columns["units"] > 0].sqrt()
            values[f"{weights[sample.param].label}/{name}"] = column
    return values


def _by_device(tensors: dict[Tensor, Tensor]) -> Iterable[list[Tensor]]:
    """The keys of the tensors on each device."""
    keys: dict[torch.device, list[Tensor]] = defaultdict(list)
    for key, x in tensors.items():
        keys[x.device].append(key)
    return keys.values()
