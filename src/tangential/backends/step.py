"""moments -> gate -> apply for batches of weights, whatever backend advances their states."""

from collections.abc import Generator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.rounding import all_loaded, store_all
from tangential.backends.rows import Rows, Table, all_wide, real
from tangential.backends.sharded import (
    Task,
    added,
    gradient_of,
    groups_of,
    local,
    run_together,
)
from tangential.backends.watched import Seen, Watch

State = dict[str, Tensor]
Group = dict[str, Any]
Tensors = list[Tensor]
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

    A weight without a gradient is left as it is. Sharded ones must be among `params`
    all the same, and their states may be empty: other processes may have a gradient, and wait for
    the sums of this process.
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


class _Batch(NamedTuple):
    """Weights that are worked on together.

    `gs`, `us` and `states` are those of the `moving` weights, which have a gradient.
    """

    params: Tensors  # as the optimizer has them: they may be DTensors
    moving: list[int]
    places: list[int]
    shards: Tensors  # what this process has of `params`
    ws: Tensors  # `shards`, wide
    gs: Tensors
    us: Tensors
    states: list[State]
    group: Group

    def of_moving(self, xs: list[Any]) -> list[Any]:
        """The entries of the moving weights, of a list with one for every weight."""
        return [xs[i] for i in self.moving]

    def of_all(self, xs: Tensors) -> list[Tensor | None]:
        """A list with an entry for every weight, None where it does not move."""
        result: list[Tensor | None] = [None] * len(self.params)
        for i, x in zip(self.moving, xs, strict=True):
            result[i] = x
        return result


def _step_batch(
    advance: Any,
    params: Tensors,
    states: list[State],
    rows: list[Rows | None],
    places: list[int],
    group: Group,
    watch: Watch | None,
) -> Task:
    batch = _advanced(advance, params, states, places, group)
    table = _table(rows, batch)
    us = yield from (_project(batch, table, watch) if table else _leave(batch))
    if batch.moving:
        _apply(batch, us)


def _advanced(
    advance: Any, params: Tensors, states: list[State], places: list[int], group: Group
) -> _Batch:
    """The batch, with its states advanced."""
    moving = [i for i, param in enumerate(params) if param.grad is not None]
    shards = [local(p) for p in params]
    states = [{name: local(x) for name, x in state.items()} for state in states]
    ws = all_loaded(shards, states, group)
    if isinstance(group["lr"], Tensor):
        group = {**group, "lr": group["lr"].to(ws[0].device)}
    states = [states[i] for i in moving]
    batch = _Batch(params, moving, places, shards, ws, [], [], states, group)
    if not moving:
        return batch
    gs = _gradients(batch)
    if steps := [state["step"] for state in states if "step" in state]:
        torch._foreach_add_(steps, 1)
    return batch._replace(gs=gs, us=advance(gs, states, group))


def _table(rows: list[Rows | None], batch: _Batch) -> Table | None:
    gated = [r for r in rows if r is not None]  # all of a batch, or none
    return Table(gated, batch.ws[0]) if gated else None


def _apply(batch: _Batch, us: Tensors) -> None:
    """Take the step w <- w - lr u and round it to what the weights keep."""
    ws, shards, lr = batch.of_moving(batch.ws), batch.of_moving(batch.shards), batch.group["lr"]
    if isinstance(lr, Tensor):
        torch._foreach_sub_(ws, [lr * u for u in us])
    else:
        torch._foreach_add_(ws, us, alpha=-lr)
    if ws[0].dtype != real(shards[0]).dtype:
        params, places = batch.of_moving(batch.params), batch.of_moving(batch.places)
        store_all(shards, ws, batch.states, params, places, batch.group)


def _gradients(batch: _Batch) -> Tensors:
    grads = [gradient_of(param).resolve_conj() for param in batch.of_moving(batch.params)]
    gs = all_wide(grads, batch.ws[0].dtype)
    return list(torch._foreach_neg(gs)) if batch.group["maximize"] else gs


def _leave(batch: _Batch) -> Wait:
    """Decay weights that are never projected; return the u in w <- w - lr u."""
    group = batch.group
    if group["decay"] and batch.moving:
        torch._foreach_mul_(batch.of_moving(batch.ws), 1 - group["lr"] * group["decay"])
    if not group["caution"]:
        return batch.us
    us, counts = _agreement(batch, batch.us, batch.gs)
    (counts,) = yield from added([counts], groups_of(batch.params[0]))
    return _enlarged(batch, us, _shrinkage(batch, counts))


def _project(batch: _Batch, table: Table, watch: Watch | None) -> Wait:
    """Scale weights by their rows' factors a; return the u in w <- a w - lr u."""
    group, holders = batch.group, table.holders
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
        watch(Seen(batch.params, table, moments, uu, gate, group))

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

    batch: _Batch
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


def _buffers(batch: _Batch) -> Tensors:
    return [real(state["momentum_buffer"]) for state in batch.states]


def _moments(batch: _Batch, table: Table, *, watched: Any) -> Wait:
    """The moments of all units, and the squared norms of their updates if they are watched."""
    gs, us = batch.of_all(batch.gs), batch.of_all(batch.us)
    ws: list[Tensor | None] = [*batch.ws]
    pairs = [(ws, ws), (gs, gs), (gs, ws), (us, ws), *([(us, us)] if watched else [])]
    sums = [table.dots(xs, ys) for xs, ys in pairs]
    sums = yield from added(sums, table.holders.parts, table.holders.units)
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
        every = yield from added([*sums, *others], self.table.holders.units)
        if self.needed:
            totals = [self.table.of_weights(x) for x in every[: len(sums)]]
            self.known += zip(values, totals, strict=True)
        return every[len(sums) :]

    def __call__(self, x: Tensor) -> Tensor:
        """The sum over all units of the weight, for every unit [units of all]."""
        return next(total for one, total in self.known if one is x) if self.needed else x


def _agreement(batch: _Batch, us: Tensors, gs: Tensors) -> tuple[Tensors, Tensor]:
    """`us` where they agree in sign with `gs`; how many elements do [params], of those here."""
    pairs = [maths.agreement(torch, u, g) for u, g in zip(us, gs, strict=True)]
    zero = batch.ws[0].new_zeros(())
    counts = batch.of_all([ones.sum() for _, ones in pairs])
    return [u for u, _ in pairs], torch.stack([zero if n is None else n for n in counts])


def _shrinkage(batch: _Batch, counts: Tensor) -> Tensor:
    """What caution divides updates by [params]; `counts` are of the whole weights."""
    sizes = [float(max(real(param).numel(), 1)) for param in batch.params]
    shares = torch._foreach_div(list(counts.unbind()), sizes)
    return maths.shrinkage(torch, torch.stack(list(shares)))


def _enlarged(batch: _Batch, us: Tensors, shrinkage: Tensor) -> Tensors:
    if not us:
        return us
    return list(torch._foreach_div(us, batch.of_moving(list(shrinkage.unbind()))))
