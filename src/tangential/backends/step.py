"""moments -> gate -> apply for batches of weights, the same for all backends."""

from collections.abc import Callable, Generator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.batch import Batch, State, StepOptions, Tensors, WeightState
from tangential.backends.rounding import all_loaded, store_all
from tangential.backends.rows import as_real, widen_all
from tangential.backends.sharded import Task, added, gradient_of, groups_of, local
from tangential.backends.sums import StepSums, Table, Watch
from tangential.units import Projection

Advance = Callable[[Tensors, list[State], StepOptions], Tensors]
Wait = Generator[Any, Any, Any]  # waits for sums of other processes


def step(
    backend: ModuleType, weights: list[WeightState], options: StepOptions, watch: Watch | None
) -> list[Task]:
    """Tasks that advance weights and their states by one step, in place.

    The sums of all sharded weights travel at once, and their updates wait for them.
    A weight without a gradient does not change. If it is sharded, it must be in `weights`: other
    processes may have a gradient for it, and then they wait for the sums of this process.
    """
    advance = backend.RULES[options.rule]
    return [_step_batch(advance, batch, options, watch) for batch in backend.batches(weights)]


def _step_batch(
    advance: Advance, weights: list[WeightState], options: StepOptions, watch: Watch | None
) -> Task:
    batch = _advanced(advance, weights, options)
    # either all weights of a batch have rows, or none
    rows = [weight.rows for weight in weights if weight.rows is not None]
    table = Table(rows, batch.ws[0]) if rows else None
    us = yield from (_project(batch, table, watch) if table else _decay(batch))
    if batch.active:
        _apply(batch, us)


def _advanced(advance: Advance, weights: list[WeightState], options: StepOptions) -> Batch:
    """The batch of some weights, with their states advanced and their updates known."""
    shards = [local(weight.param) for weight in weights]
    states = [{name: local(x) for name, x in weight.state.items()} for weight in weights]
    ws = all_loaded(shards, states, options.low_precision)
    if isinstance(options.lr, Tensor):
        options = options._replace(lr=options.lr.to(ws[0].device))
    active = [i for i, weight in enumerate(weights) if weight.has_grad]
    if not active:
        return Batch(weights, options, shards, ws, active, [], [], [])
    states = [states[i] for i in active]
    grads = [gradient_of(weights[i].param).resolve_conj() for i in active]
    gs = widen_all(grads, ws[0].dtype)
    if options.maximize:
        gs = list(torch._foreach_neg(gs))
    if steps := [state["step"] for state in states if "step" in state]:
        torch._foreach_add_(steps, 1)
    return Batch(weights, options, shards, ws, active, states, gs, advance(gs, states, options))


def _apply(batch: Batch, us: Tensors) -> None:
    """Take the step w <- w - lr u and round it to the dtype of the weights."""
    ws, lr = batch.of_active(batch.ws), batch.options.lr
    if isinstance(lr, Tensor):
        torch._foreach_sub_(ws, [lr * u for u in us])
    else:
        torch._foreach_add_(ws, us, alpha=-lr)
    if ws[0].dtype != as_real(batch.shards[0]).dtype:
        store_all(batch)


def _decay(batch: Batch) -> Wait:
    """Decay weights that are never projected; return the u in w <- w - lr u."""
    options = batch.options
    if options.decay and batch.active:
        torch._foreach_mul_(batch.of_active(batch.ws), 1 - options.lr * options.decay)
    if not options.caution:
        return batch.us
    us, counts = _agreement(batch, batch.us, batch.gs)
    (counts,) = yield from added([counts], groups_of(batch.weights[0].param))
    us, _ = _enlarged(batch, us, counts)
    return us


def _project(batch: Batch, table: Table, watch: Watch | None) -> Wait:
    """Scale weights by their rows' factors a; return the u in w <- a w - lr u."""
    options = batch.options
    judged = yield from _judge(batch, table, watch)
    us, c = batch.us, judged.coef(judged.moments.uw)
    project_buffer = options.project_buffer and not options.nesterov
    if project_buffer or options.caution:
        us, c = judged.tangent(us, c), torch.zeros_like(c)
    if project_buffer and batch.active:
        torch._foreach_copy_([as_real(state["momentum_buffer"]) for state in batch.states], us)
    if options.caution:
        us, c = yield from _cautious(judged, us)
    if batch.active:
        judged.scale(c)
    return us


class _Judged(NamedTuple):
    """A batch with its moments and the gate's decisions."""

    batch: Batch
    table: Table
    moments: maths.Moments
    gate: maths.Gate
    totals: "Totals"

    def coef(self, xw: Tensor) -> Tensor:
        """The coefficient c that makes x - c w orthogonal to w; 0 where the gate does not fire."""
        eps = self.batch.options.eps
        return maths.coef(torch, self.gate, self.moments.ww, xw, self.totals, eps=eps)

    def tangent(self, xs: Tensors, c: Tensor) -> Tensors:
        """Return x - c w for every active weight."""
        if not xs:
            return xs
        factors = self.batch.of_active(self.table.spread(c))
        radial = torch._foreach_mul(self.batch.of_active(self.batch.ws), factors)
        return list(torch._foreach_sub(xs, radial))

    def scale(self, c: Tensor) -> None:
        """Take the step w <- (1 - lr (decay damp - c)) w."""
        options = self.batch.options
        damp = maths.damp(torch, self.gate, self.moments.ww, wd_ratio=options.wd_ratio)
        factors = self.table.spread(1 - options.lr * (options.decay * damp - c))
        torch._foreach_mul_(self.batch.of_active(self.batch.ws), self.batch.of_active(factors))


def _judge(batch: Batch, table: Table, watch: Watch | None) -> Wait:
    """Compute the moments and the gate's decisions, and pass them to `watch`."""
    options, projection = batch.options, batch.options.units.projection
    watched = watch is not None and not options.caution
    arrays = {"w": batch.ws, "g": batch.of_all(batch.gs), "u": batch.of_all(batch.us)}
    sums = table.dots(arrays, ["ww", "gw", "gg", "uw", *(["uu"] if watched else [])])
    sums = yield from added(sums, table.shard_groups.parts, table.shard_groups.units)
    ww, gw, gg, uw = sums[:4]
    moments = maths.Moments(ww, gg, gw, uw)
    settings = {"projection": projection, "delta": options.delta, "eps": options.eps}
    gate, totals = yield from decide(table, moments, **settings)
    if watch is not None and watched:
        params = [weight.param for weight in batch.weights]
        watch(StepSums(params, table, moments, sums[4], gate, options))
    return _Judged(batch, table, moments, gate, totals)


def decide(
    table: Table,
    moments: maths.Moments,
    *others: Tensor,
    projection: Projection,
    delta: float,
    eps: float,
) -> Wait:
    """The gate's decisions; sums over whole weights, also of `others` [units of all], if needed."""
    totals, failed = Totals(table, needed=projection == "auto"), None
    settings = {"unit_size": table.unit_size, "delta": delta, "eps": eps}
    if totals.needed:
        failed = maths.failing(torch, moments, **settings)
        yield from totals.learn([*moments, failed, *others])
    settings |= {"size": table.size, "projection": projection, "failed": failed}
    return maths.gate(torch, moments, totals, **settings), totals


def _cautious(judged: _Judged, us: Tensors) -> Wait:
    """Drop elements that disagree with the tangent gradient; return the rescaled us and their c."""
    batch, table, groups = judged.batch, judged.table, judged.table.shard_groups
    gs = judged.tangent(batch.gs, judged.coef(judged.moments.gw))
    us, counts = _agreement(batch, us, gs)
    (xw,) = table.dots({"w": batch.ws, "u": batch.of_all(us)}, ["uw"])
    xw, counts = yield from added([xw, counts], groups.parts, groups.units)
    (counts,) = yield from judged.totals.learn([xw], counts)
    us, shrinkage = _enlarged(batch, us, counts)
    return us, judged.coef(xw) / table.of_weights(shrinkage)


class Totals:
    """The argument `total` of `maths`: looks up sums that the processes have added up before.

    If not `needed`, because no decision depends on whole weights, nothing is added up.
    """

    def __init__(self, table: Table, *, needed: bool) -> None:
        self.table, self.needed = table, needed
        self.known: list[tuple[Tensor, Tensor]] = []

    def learn(self, values: Tensors, *others: Tensor) -> Wait:
        """Add up values [units of all]; return `others`, summed over the same processes."""
        sums = [self.table.totals(values)] if self.needed else []
        every = yield from added([*sums, *others], self.table.shard_groups.units)
        if self.needed:
            totals = self.table.of_weights(every[0]).unbind(1)
            self.known += zip(values, totals, strict=True)
        return every[len(sums) :]

    def __call__(self, x: Tensor) -> Tensor:
        """The sum over all units of the weight, for every unit [units of all]."""
        return next(total for value, total in self.known if value is x) if self.needed else x


def _agreement(batch: Batch, us: Tensors, gs: Tensors) -> tuple[Tensors, Tensor]:
    """`us` with 0 where signs differ from `gs`; number of local elements kept [weights]."""
    zero = batch.ws[0].new_zeros((), dtype=torch.float64)
    if not us:
        return us, zero.to(batch.ws[0].dtype).expand(len(batch.weights))
    kept, ones = maths.agreement(
        torch, *(torch.cat([x.reshape(-1) for x in xs]) for xs in (us, gs))
    )
    sizes = [u.numel() for u in us]
    # sums of ones, in one operation; float32 would count to 2**24 only
    norms = torch._foreach_norm(list(ones.split(sizes)), 1, dtype=torch.float64)
    counts = [zero if n is None else n for n in batch.of_all([*norms])]
    us = [part.view(u.shape) for part, u in zip(kept.split(sizes), us, strict=True)]
    return us, torch.stack(counts).to(us[0].dtype)


def _enlarged(batch: Batch, us: Tensors, counts: Tensor) -> tuple[Tensors, Tensor]:
    """`us` divided by the share of elements kept; and the divisors [weights].

    `counts`: elements kept, of whole weights [weights].
    """
    params = [weight.param for weight in batch.weights]
    sizes = [max(p.numel(), 1) * (2.0 if p.is_complex() else 1.0) for p in params]
    shares = torch._foreach_div(list(counts.unbind()), sizes)
    shrinkage = maths.shrinkage(torch, torch.stack(list(shares)))
    if us:
        us = list(torch._foreach_div(us, batch.of_active(list(shrinkage.unbind()))))
    return us, shrinkage
