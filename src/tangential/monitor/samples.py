"""The inner products of a step: from the optimizer's own sums, or from copies of the weights.

Every process works on its shard of a DTensor; only sums travel between processes.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
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
    shards_of,
    splits_units,
    widen,
)
from tangential.monitor.motion import Moved, added
from tangential.monitor.updates import gradient_of, keep_of, update_of

Group = dict[str, Any]
Process = Any  # torch.distributed.ProcessGroup


class Sample(NamedTuple):
    """The sums of a weight [ADDED]; `judged`: whether they include the optimizer's gate."""

    param: Tensor
    sums: Tensor
    judged: bool


class _Part(NamedTuple):
    """This process's part of a weight: inner products per unit [5, units] of w, g and e."""

    param: Tensor
    products: Tensor
    keep: float
    fan: float


def samples_of(seen: StepSums) -> list[Sample]:
    """Samples from the sums of AdamP or SGDP, whose step adds e = -lr (u - c w)."""
    options, table = seen.options, seen.table
    ww, gg, gw, uw = (x.double() for x in seen.moments)
    uu, lr = seen.uu.double(), options.lr
    c = maths.coef(torch, seen.gate, ww, uw, table.total, eps=options.eps)
    damp = maths.damp(torch, seen.gate, ww, wd_ratio=options.wd_ratio)
    we = -lr * (uw - c * ww)
    ee = lr**2 * (uu - 2 * c * uw + c * c * ww).clamp(min=0)  # radial updates cancel to rounding
    fan = torch.as_tensor(table.unit_size, dtype=ww.dtype, device=ww.device).expand_as(ww)
    moved = Moved(ww, gg, gw, we, ee, 1 - lr * options.decay * damp, fan)
    units = [rows.units for rows in table.rows]
    sums = added_up(_over_units(added(moved, seen.gate), units), table.shard_groups.units)
    samples = [Sample(p, row, True) for p, row in zip(seen.params, sums, strict=True)]
    return [sample for sample in samples if sample.param.grad is not None]


def _over_units(sums: Tensor, units: list[int]) -> Tensor:
    owner = _owner(units).to(sums.device)
    return sums.new_zeros(len(units), sums.shape[1]).index_add_(0, owner, sums)


def _owner(units: list[int]) -> Tensor:
    """The index of the weight of every unit, on the CPU."""
    return torch.repeat_interleave(torch.tensor(units, device="cpu"))


class Copies:
    """Copies of weights before a step; for a DTensor, of this process's shard."""

    def __init__(self, params: Iterable[Tensor]) -> None:
        self.before = {p: local(p.detach()).clone() for p in params}

    def samples(
        self, optimizer: Optimizer, groups: dict[Tensor, Group], units: dict[Tensor, Units]
    ) -> list[Sample]:
        """The samples of every weight that has a gradient; call this after the step.

        Sharded weights without a gradient take part, because other processes may have one.

        Weights narrower than float32 are not compared with their copies: rounding may hide a whole
        step. Their update follows from the optimizer's state if its rule is known; else it is NaN.

        Args:
            optimizer: The optimizer that took the step.
            groups: The optimizer's group of every weight.
            units: The units of every weight.
        """
        changes = [
            (p, self._change(optimizer, p, groups[p], units[p]))
            for p in self.before
            if p.grad is not None or shards_of(p)
        ]
        measured = [
            change
            for _, change in changes
            if change.rows.local_rows is None and native.can_measure(change)
        ]
        by_kernel = dict(zip(map(id, measured), native.measure(measured), strict=True))
        parts = []
        for param, change in changes:
            products = by_kernel.get(id(change))
            if products is None:
                products = _products(change, _added(optimizer, param, change, groups[param]))
            parts.append(_Part(param, products, change.keep, _fan(param, change)))
        return [s for s in _samples(parts, units) if s.param.grad is not None]

    def _change(
        self, optimizer: Optimizer, param: Tensor, group: Group, units: Units
    ) -> native.WeightChange:
        before = self.before[param]
        after = local(param.detach())
        grad = torch.zeros_like(before) if param.grad is None else gradient_of(param)
        keep = keep_of(optimizer, group)
        rows = _rows(param, before, units)
        return native.WeightChange(before, after, grad, rows, units, keep)


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


def _fan(param: Tensor, change: native.WeightChange) -> float:
    """The number of elements of a whole unit, of which a shard may have only a part."""
    size = as_real(param).numel() if shard_groups(param, change.units).parts else change.rows.size
    return size / max(change.rows.units, 1)


def _rows(param: Tensor, weight: Tensor, units: Units) -> Rows:
    """The units of `weight`, the local part of `param`; a vector or empty part is one unit."""
    if splits_units(param, units):
        whole = rows_of(param, units)
        assert whole is not None
        return whole
    rows = rows_of(weight, units) if weight.numel() else None
    size = as_real(weight).numel()
    axes = tuple(range(as_real(weight).dim()))
    return rows or Rows(1, 1, size, size, axes, (1,) * len(axes))


def _samples(parts: list[_Part], units: dict[Tensor, Units]) -> list[Sample]:
    """Add up the products of split units, then take angles, then add up the sums of all units."""
    _reduce([(x.products, shard_groups(x.param, units[x.param]).parts) for x in parts])
    sums = [part.products for part in parts]
    for device in {part.products.device for part in parts}:
        here = [i for i, part in enumerate(parts) if part.products.device == device]
        for i, row in zip(here, _sums_of_weights([parts[i] for i in here]), strict=True):
            sums[i] = row
    pairs = list(zip(parts, sums, strict=True))
    _reduce([(row, shard_groups(x.param, units[x.param]).units) for x, row in pairs])
    return [Sample(x.param, row, False) for x, row in pairs]


def _sums_of_weights(parts: list[_Part]) -> Tensor:
    """The sums of weights on one device [weights, ADDED], in one pass over all their units."""
    units = [part.products.shape[1] for part in parts]
    products = torch.cat([part.products for part in parts], dim=1)
    each = [(part.keep, part.fan) for part in parts]
    known = torch.tensor(each, dtype=products.dtype, device="cpu")
    keep, fan = known[_owner(units)].T.to(products.device)
    ww, gg, gw, we, ee = products
    return _over_units(added(Moved(ww, gg, gw, we, ee, keep, fan)), units)


def _reduce(tensors: list[tuple[Tensor, tuple[Process, ...]]]) -> None:
    """Sum tensors over process groups, in place, with one collective per group."""
    by_group: dict[Process, list[Tensor]] = defaultdict(list)
    for x, groups in tensors:
        for group in groups:
            by_group[group].append(x)
    for group, xs in by_group.items():
        flat = torch.cat([x.flatten() for x in xs])
        dist.all_reduce(flat, group=group)
        for x, part in zip(xs, flat.split([x.numel() for x in xs]), strict=True):
            x.copy_(part.view_as(x))


def on_host(sums: list[Tensor]) -> list[list[float]]:
    """The sums as floats, by one transfer from each device."""
    rows: list[list[float]] = [[] for _ in sums]
    for device in {x.device for x in sums}:
        here = [i for i, x in enumerate(sums) if x.device == device]
        for i, values in zip(here, torch.stack([sums[i] for i in here]).tolist(), strict=True):
            rows[i] = values
    return rows
