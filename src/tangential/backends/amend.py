"""The step of any optimizer, amended: the gate decides about the weights and gradients before it.

`begin` copies the weights and sums what the gate needs. `finish` sees what the optimizer has added
to every weight; then the sums of all processes travel together, the gate decides, and a rule of
`radial` acts. Weights that are never projected decay before the step, as in AdamW. `native` and
`triton` copy, sum and amend the weights that they support.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential import maths, radial
from tangential.backends import foreach, native, triton
from tangential.backends.batch import State, Tensors, WeightState
from tangential.backends.native import WeightChange
from tangential.backends.rows import Rows, as_real, per_unit, widen_all
from tangential.backends.sharded import Task, added, gradient_of, local
from tangential.backends.step import Totals, Wait, decide
from tangential.backends.sums import Table
from tangential.functional import VOTES, Amendment
from tangential.units import Units


class Begun(NamedTuple):
    """A batch of weights between the two halves of a step.

    Attributes:
        weights: What the optimizer moves.
        active: Indices of the weights that have a gradient.
        befores: What these were; 16-bit weights are the user's.
        table: The units of all weights, which `sums` and `state` are about.
        sums: ww, gg and gw of this process.
        kernel: `native` or `triton`, if it takes this batch.
    """

    weights: list[WeightState]
    active: list[int]
    befores: Tensors
    how: Amendment
    table: Table
    sums: Tensors
    state: State
    kernel: Any


class _Judged(NamedTuple):
    """A batch with the gate's decisions; it has the sums of all processes."""

    batch: Begun
    gate: maths.Gate
    ww: Tensor
    totals: Totals

    def answer(self, ew: Tensor, ee: Tensor, total: maths.Total) -> tuple[radial.Factors, State]:
        """The rule's factors, and its state after the step."""
        how, before = self.batch.how, self.batch.state
        state = {name: before[name] for name in how.rule.state}
        change = radial.Change(self.ww, ew, ee)
        return radial.amended(torch, how.rule, self.gate, change, state, total, how.setting)


def begin(
    weights: list[WeightState],
    originals: dict[Tensor, Tensor],
    how: Amendment,
    fused: bool | None,
    begun: list[Begun],
) -> None:
    """Copy weights before a step, and append what `finish` needs to `begun`.

    Args:
        weights: The weights that have a gradient, in at least float32, and shards without one.
        originals: The user's 16-bit weights, by the float32 tensors that the optimizer moves.
        how: What the group wants.
        fused: Whether to use Triton (True), and no kernel at all (False).
        begun: One entry per batch of weights that may be projected.
    """
    by_kernel: dict[Any, list[WeightState]] = {}
    for weight in weights:
        kernel = _kernel_of(weight, originals, how.units, fused)
        by_kernel.setdefault(kernel and (kernel, weight.param.device), []).append(weight)
    others = by_kernel.pop(None, [])
    batches = [_begun(batch, originals, how, None) for batch in foreach.batches(others)]
    batches += [_begun(some, originals, how, kernel) for (kernel, _), some in by_kernel.items()]
    begun += [batch for batch in batches if batch is not None]


def _begun(
    weights: list[WeightState], originals: dict[Tensor, Tensor], how: Amendment, kernel: Any
) -> Begun | None:
    """A batch, copied; None if it is never projected, and has decayed."""
    active = [i for i, weight in enumerate(weights) if weight.has_grad]
    if isinstance(lr := how.setting.lr, Tensor):
        how = how._replace(setting=how.setting._replace(lr=lr.to(weights[0].param.device)))
    rows = [weight.rows for weight in weights if weight.rows is not None]
    if not rows:  # either all weights of a batch have rows, or none
        if active and how.setting.decay:
            ws = [as_real(local(weights[i].param)) for i in active]
            torch._foreach_mul_(ws, 1 - how.setting.lr * how.setting.decay)
        return None
    if kernel:
        befores, table, sums = _copied_by_kernel(kernel, weights, rows, how.units)
    else:
        befores, table, sums = _copied(weights, active, originals, rows)
    state = {name: _loaded(name, weights, sums[0]) for name in how.names}
    return Begun(weights, active, befores, how, table, sums, state, kernel)


def _judge(batch: Begun, ew: Tensor, ee: Tensor) -> Wait:
    """The gate's decisions, and sums of e.w and e.e [units of all]; all of them travel together."""
    how, table, state, groups = batch.how, batch.table, batch.state, batch.table.shard_groups
    sums = yield from added([*batch.sums, ew, ee], groups.parts, groups.units)
    ww, gg, gw, ew, ee = sums
    settings = {"projection": how.units.projection, "delta": how.delta, "eps": how.setting.eps}
    moments = maths.Moments(ww, gg, gw, ew)
    gate, totals = yield from decide(table, moments, ee, **settings)
    if how.latches:
        votes = maths.Votes(*(state[name] for name in VOTES))
        wait = how.rule.needs_decision
        gate, votes = maths.latched(torch, gate, votes, steps=how.latch, wait=wait)
        state |= zip(VOTES, votes, strict=True)
    return _Judged(batch, gate, ww, totals), ew, ee


def _copied(
    weights: list[WeightState],
    active: list[int],
    originals: dict[Tensor, Tensor],
    rows: list[Rows],
) -> tuple[Tensors, Table, Tensors]:
    """Copies of the active weights; the units of all weights, and their ww, gg and gw."""
    ws = [as_real(local(weight.param)) for weight in weights]
    params = [weights[i].param for i in active]
    gs = widen_all([gradient_of(param).resolve_conj() for param in params], ws[0].dtype)
    befores = [
        local(originals[param]) if param in originals else ws[i].clone()
        for i, param in zip(active, params, strict=True)
    ]
    table = Table(rows, ws[0])
    arrays = {"w": ws, "g": _of_all(gs, active, len(ws))}
    ww, gw, gg = table.dots(arrays, ["ww", "gw", "gg"])
    return befores, table, [ww, gg, gw]


def _copied_by_kernel(
    kernel: Any, weights: list[WeightState], rows: list[Rows], units: Units
) -> tuple[Tensors, Table, Tensors]:
    params: list[Any] = [weight.param for weight in weights]
    befores = [torch.empty_like(param, requires_grad=False) for param in params]
    changes = [
        WeightChange(param, before, param.grad, layout, units)
        for param, before, layout in zip(params, befores, rows, strict=True)
    ]
    sums = kernel.measure(changes, copies=True)
    return befores, Table(rows, sums), [*sums[:, :3].T.contiguous()]


def _kernel_of(
    weight: WeightState, originals: dict[Tensor, Tensor], units: Units, fused: bool | None
) -> Any:
    """The kernel that takes a weight; None if none does."""
    param: Any = weight.param
    if weight.rows is None or param.grad is None or param in originals or fused is False:
        return None
    change = WeightChange(param, param, param.grad, weight.rows, units)
    kernels = (triton, native) if fused else (native,)
    return next((kernel for kernel in kernels if kernel.can_measure(change)), None)


def finish(begun: list[Begun]) -> list[Task]:
    """Tasks that amend, in place, what the optimizer has moved since `begin`."""
    return [_amend_by_kernel(batch) if batch.kernel else _amend(batch) for batch in begun]


def _amend(batch: Begun) -> Task:
    weights, active, table = batch.weights, batch.active, batch.table
    afters = [as_real(local(weights[i].param)) for i in active]
    befores = widen_all(batch.befores)
    es = list(torch._foreach_sub(afters, befores)) if active else []
    count = len(weights)
    arrays = {"e": _of_all(es, active, count), "w": _of_all(befores, active, count)}
    judged, ew, ee = yield from _judge(batch, *table.dots(arrays, ["we", "ee"]))
    (scale, shrink), state = judged.answer(ew, ee, judged.totals)
    batch.state.update(state)
    if not active:
        return
    of_active = lambda xs: [xs[i] for i in active]
    if scale is not None:
        torch._foreach_mul_(es, of_active(table.spread(scale)))
        torch._foreach_add_(es, befores)
        torch._foreach_copy_(afters, es)
    torch._foreach_mul_(befores, of_active(table.spread(shrink)))
    torch._foreach_sub_(afters, befores)


def _amend_by_kernel(batch: Begun) -> Task:
    """The same; for linear rules, the kernel computes e.w and amends in one pass."""
    table, units = batch.table, batch.how.units
    changes = [
        WeightChange(before, weight.param, before, rows, units)
        for before, weight, rows in zip(batch.befores, batch.weights, table.rows, strict=True)
    ]
    if batch.how.rule.linear:
        zeros, ones = torch.zeros_like(batch.sums[0]), torch.ones_like(batch.sums[0])
        judged, *_ = yield from _judge(batch, zeros, zeros)
        total = lambda x: table.total(x) if x is judged.ww else x  # of the weight that e.w is of
        (scale, shrink), state = judged.answer(zeros, zeros, total)
        slope = judged.answer(ones, zeros, total)[0].shrink - shrink
    else:
        *_, ew, ee = batch.kernel.measure(changes).T.contiguous()
        judged, *_ = yield from _judge(batch, ew, ee)
        ((scale, shrink), state), slope = judged.answer(ew, ee, table.total), None
    batch.state.update(state)
    batch.kernel.amend(changes, judged.gate.weight, scale, shrink, slope)


def keep(batch: Begun, states: dict[Tensor, State]) -> None:
    """Store the numbers per unit of active weights in an optimizer's states, after `finish`."""
    for name, values in batch.state.items():
        parts = values.split([weight.rows.units for weight in batch.weights if weight.rows])
        for i in batch.active:
            param = batch.weights[i].param
            value = parts[i].to(as_real(local(param)).dtype, copy=True)  # as a checkpoint keeps it
            states[param][_key(name)] = per_unit(value, param, batch.how.units)


def _key(name: str) -> str:
    """The name of a number per unit in an optimizer's state."""
    return name if name in VOTES else f"radial_{name}"


def _loaded(name: str, weights: list[WeightState], like: Tensor) -> Tensor:
    """A number per unit [units of all] from the states of weights; 0 where it is missing."""
    key = _key(name)
    parts = [
        local(weight.state[key]).to(like.dtype)
        if key in weight.state
        else like.new_zeros(weight.rows.units)
        for weight in weights
        if weight.rows
    ]
    return torch.cat(parts)


def _of_all(xs: Tensors, active: list[int], count: int) -> list[Tensor | None]:
    """A list with one entry per weight, None where the weight does not move."""
    entries = dict(zip(active, xs, strict=True))
    return [entries.get(i) for i in range(count)]
