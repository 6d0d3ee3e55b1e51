"""moments -> gate -> apply for batches of weights, whatever backend advances their states."""

from collections.abc import Generator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.batch import Batch, Group, State, Tensors, advanced, apply
from tangential.backends.rows import Rows, real
from tangential.backends.sharded import Task, added, groups_of, run_together
from tangential.backends.table import Table
from tangential.backends.watched import StepSums, Watch

Wait = Generator[Any, Any, Any]  # for sums of other processes


def step(
    backend: ModuleType,
    rule: str,
    params: Tensors,
    states: list[State],
    rows: list[Rows | None],
    places: list[int],
    group: Group,
    watch: Watch | None = None,
) -> list[Task]:
    """Tasks that advance weights, and their states, by one step of `rule`, in place.

    A weight without a gradient is left as it is. If it is sharded, it must be among `params` all
    the same, and its state may be empty: other processes may have a gradient of it, and wait for
    the sums of this one.
    """
    tasks = [
        _step_batch(
            backend.RULES[rule],
            [params[i] for i in batch],
            [states[i] for i in batch],
            [rows[i] for i in batch],
            [places[i] for i in batch],
            group,
            watch,
        )
        for batch in backend.batches(params, rows)
    ]
    if backend.TOGETHER:
        return tasks
    for task in tasks:
        run_together([task])
    return []


def _step_batch(
    advance: Any,
    params: Tensors,
    states: list[State],
    rows: list[Rows | None],
    places: list[int],
    group: Group,
    watch: Watch | None,
) -> Task:
    batch = advanced(advance, params, states, places, group)
    table = _table(rows, batch)
    us = yield from (_project(batch, table, watch) if table else _leave(batch))
    if batch.moving:
        apply(batch, us)


def _table(rows: list[Rows | None], batch: Batch) -> Table | None:
    gated = [r for r in rows if r is not None]  # all of a batch, or none
    return Table(gated, batch.ws[0]) if gated else None


def _leave(batch: Batch) -> Wait:
    """Decay weights that are never projected; return the u in w <- w - lr u."""
    group = batch.group
    if group["decay"] and batch.moving:
        torch._foreach_mul_(batch.of_moving(batch.ws), 1 - group["lr"] * group["decay"])
    if not group["caution"]:
        return batch.us
    us, counts = _agreement(batch, batch.us, batch.gs)
    (counts,) = yield from added([counts], groups_of(batch.params[0]))
    return _enlarged(batch, us, _shrinkage(batch, counts))


def _project(batch: Batch, table: Table, watch: Watch | None) -> Wait:
    """Scale weights by their rows' factors a; return the u in w <- a w - lr u."""
    group, holders = batch.group, table.shard_groups
    moments, uu = yield from _moments(batch, table, watched=watch and not group["caution"])
    settings = {"delta": group["delta"], "eps": group["eps"]}
    total = _Totals(table, needed=group["projection"] == "auto")
    failed = maths.failing(torch, moments, fan=table.fan, **settings) if total.needed else None
    if failed is not None:
        yield from total.learn([*moments, failed])
    gate = maths.gate(
        torch,
        moments,
        total,
        fan=table.fan,
        size=table.size,
        projection=group["projection"],
        failed=failed,
        **settings,
    )
    if watch and uu is not None:
        watch(StepSums(batch.params, table, moments, uu, gate, group))

    judged = _Judged(batch, table, moments, gate, total)
    us, c = batch.us, judged.coef(moments.uw)
    project_buffer = group.get("project_buffer") and not group["nesterov"]
    if project_buffer or group["caution"]:
        us, c = judged.tangent(us, c), torch.zeros_like(c)
    if project_buffer and batch.moving:
        torch._foreach_copy_(_buffers(batch), us)
    if group["caution"]:
        us, counts = _agreement(batch, us, judged.tangent(batch.gs, judged.coef(moments.gw)))
        xw = table.dots(batch.of_all(us), [*batch.ws])
        xw, counts = yield from added([xw, counts], holders.parts, holders.units)
        (counts,) = yield from total.learn([xw], counts)
        shrinkage = _shrinkage(batch, counts)
        us = _enlarged(batch, us, shrinkage)
        c = judged.coef(xw) / table.of_weights(shrinkage)
    if batch.moving:
        judged.scale(c)
    return us


class _Judged(NamedTuple):
    """What `_project` knows once the gate has decided."""

    batch: Batch
    table: Table
    moments: maths.Moments
    gate: maths.Gate
    total: Any

    def coef(self, xw: Tensor) -> Tensor:
        """The coefficient c with which x - c w has no radial part where the gate has fired."""
        eps = self.batch.group["eps"]
        return maths.coef(torch, self.gate, self.moments.ww, xw, self.total, eps=eps)

    def tangent(self, xs: Tensors, c: Tensor) -> Tensors:
        """Return x - c w for every moving weight."""
        if not xs:
            return xs
        factors = self.batch.of_moving(self.table.spread(c))
        radial = torch._foreach_mul(self.batch.of_moving(self.batch.ws), factors)
        return list(torch._foreach_sub(xs, radial))

    def scale(self, c: Tensor) -> None:
        """Take the step w <- (1 - lr (decay damp - c)) w."""
        group = self.batch.group
        damp = maths.damp(torch, self.gate, self.moments.ww, wd_ratio=group["wd_ratio"])
        factors = self.table.spread(1 - group["lr"] * (group["decay"] * damp - c))
        torch._foreach_mul_(self.batch.of_moving(self.batch.ws), self.batch.of_moving(factors))


def _buffers(batch: Batch) -> Tensors:
    return [real(state["momentum_buffer"]) for state in batch.states]


def _moments(batch: Batch, table: Table, *, watched: Any) -> Wait:
    """The moments of all units, and the squared norms of their updates if they are watched."""
    gs, us = batch.of_all(batch.gs), batch.of_all(batch.us)
    ws: list[Tensor | None] = [*batch.ws]
    pairs = [(ws, ws), (gs, gs), (gs, ws), (us, ws), *([(us, us)] if watched else [])]
    sums = [table.dots(xs, ys) for xs, ys in pairs]
    sums = yield from added(sums, table.shard_groups.parts, table.shard_groups.units)
    return maths.Moments(*sums[:4]), sums[4] if watched else None


class _Totals:
    """Sums over all units of a weight, as `maths` asks for them, added up over processes before.

    Args:
        table: The units.
        needed: False where no decision is about whole weights: nothing is added up then.
    """

    def __init__(self, table: Table, *, needed: bool) -> None:
        self.table, self.needed = table, needed
        self.known: list[tuple[Tensor, Tensor]] = []

    def learn(self, values: Tensors, *others: Tensor) -> Wait:
        """Add up values [units of all]; return `others`, summed over the same processes."""
        sums = self.table.totals(values) if self.needed else []
        every = yield from added([*sums, *others], self.table.shard_groups.units)
        if self.needed:
            totals = [self.table.of_weights(x) for x in every[: len(sums)]]
            self.known += zip(values, totals, strict=True)
        return every[len(sums) :]

    def __call__(self, x: Tensor) -> Tensor:
        """The sum over all units of the weight, for every unit [units of all]."""
        return next(total for one, total in self.known if one is x) if self.needed else x


def _agreement(batch: Batch, us: Tensors, gs: Tensors) -> tuple[Tensors, Tensor]:
    """`us` where they agree in sign with `gs`; how many elements do [params], of those here."""
    pairs = [maths.agreement(torch, u, g) for u, g in zip(us, gs, strict=True)]
    zero = batch.ws[0].new_zeros(())
    counts = batch.of_all([ones.sum() for _, ones in pairs])
    return [u for u, _ in pairs], torch.stack([zero if n is None else n for n in counts])


def _shrinkage(batch: Batch, counts: Tensor) -> Tensor:
    """What caution divides updates by [params]; `counts` are of the whole weights."""
    sizes = [max(p.numel(), 1) * (2.0 if p.is_complex() else 1.0) for p in batch.params]
    shares = torch._foreach_div(list(counts.unbind()), sizes)
    return maths.shrinkage(torch, torch.stack(list(shares)))


def _enlarged(batch: Batch, us: Tensors, shrinkage: Tensor) -> Tensors:
    if not us:
        return us
    return list(torch._foreach_div(us, batch.of_moving(list(shrinkage.unbind()))))
