"""moments -> gate -> apply for batches of weights, whatever backend advances their states."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.rounding import loaded, store
from tangential.backends.rows import Rows, Table, real, wide
from tangential.backends.sharded import gradient_of, like, local
from tangential.backends.watched import Seen, Watch

State = dict[str, Tensor]
Group = dict[str, Any]
Tensors = list[Tensor]


def step(
    backend: ModuleType,
    rule: str,
    params: Tensors,
    states: list[State],
    rows: list[Rows | None],
    places: list[int],
    group: Group,
    watch: Watch | None = None,
) -> None:
    """Advance weights that have gradients, and their states, by one step of `rule`, in place."""
    for batch in backend.batches(params, rows):
        _step_batch(
            backend.RULES[rule],
            [params[i] for i in batch],
            [states[i] for i in batch],
            [rows[i] for i in batch],
            [places[i] for i in batch],
            group,
            watch,
        )


def _step_batch(
    advance: Any,
    params: Tensors,
    states: list[State],
    rows: list[Rows | None],
    places: list[int],
    group: Group,
    watch: Watch | None,
) -> None:
    whole, grads = params, [gradient_of(p) for p in params]
    params = [local(p) for p in params]
    states = [{name: local(x) for name, x in state.items()} for state in states]
    ws = [loaded(p, s, group) for p, s in zip(params, states, strict=True)]
    gs = [wide(g.resolve_conj()).to(w.dtype) for g, w in zip(grads, ws, strict=True)]
    if group["maximize"]:
        gs = [-g for g in gs]
    lr = group["lr"]
    if isinstance(lr, Tensor):
        lr = lr.to(ws[0].device)
        group = {**group, "lr": lr}
    for state in states:
        if "step" in state:
            state["step"] += 1
    us = advance(gs, states, group)
    gated = [r for r in rows if r is not None]  # all of a batch, or none
    if gated:
        us = _project(Table(gated, ws[0]), ws, gs, us, states, group, whole, watch)
    else:
        us = _leave(ws, gs, us, group, whole)
    if isinstance(lr, Tensor):
        torch._foreach_sub_(ws, [lr * u for u in us])
    else:
        torch._foreach_add_(ws, us, alpha=-lr)
    if ws[0].dtype != real(params[0]).dtype:
        for param, w, state, place in zip(params, ws, states, places, strict=True):
            store(param, w, state, place, group)


def _leave(ws: Tensors, gs: Tensors, us: Tensors, group: Group, params: Tensors) -> Tensors:
    """Decay weights that are never projected; return the u in w <- w - lr u."""
    if group["decay"]:
        torch._foreach_mul_(ws, 1 - group["lr"] * group["decay"])
    if group["caution"]:
        return _cautious(us, gs, params)
    return us


def _cautious(us: Tensors, gs: Tensors, params: Tensors) -> Tensors:
    parts = zip(params, us, gs, strict=True)
    return [local(maths.cautious(torch, like(p, u), like(p, g))) for p, u, g in parts]


def _project(
    table: Table,
    ws: Tensors,
    gs: Tensors,
    us: Tensors,
    states: list[State],
    group: Group,
    params: Tensors,
    watch: Watch | None,
) -> Tensors:
    """Scale weights by their rows' factors a; return the u in w <- a w - lr u."""
    ww, gw, eps = table.dots(ws, ws), table.dots(gs, ws), group["eps"]
    moments = maths.Moments(ww, table.dots(gs, gs), gw, table.dots(us, ws))
    gate = maths.gate(
        torch,
        moments,
        table.total,
        fan=table.fan,
        size=table.size,
        projection=group["projection"],
        delta=group["delta"],
        eps=eps,
    )

    if watch and not group["caution"]:
        watch(Seen(params, table, moments, table.dots(us, us), gate, group))

    def coef(xw: Tensor) -> Tensor:
        return maths.coef(torch, gate, ww, xw, table.total, eps=eps)

    def tangent(xs: Tensors, c: Tensor) -> Tensors:
        return [x - s * w for x, s, w in zip(xs, table.spread(c), ws, strict=True)]

    c = coef(moments.uw)
    project_buffer = group.get("project_buffer") and not group["nesterov"]
    if project_buffer or group["caution"]:
        us, c = tangent(us, c), torch.zeros_like(c)
    if project_buffer:
        for state, p in zip(states, us, strict=True):
            real(state["momentum_buffer"]).copy_(p)
    if group["caution"]:
        us = _cautious(us, tangent(gs, coef(gw)), params)
        c = coef(table.dots(us, ws))
    damp = maths.damp(torch, gate, ww, wd_ratio=group["wd_ratio"])
    factors = table.spread(1 - group["lr"] * (group["decay"] * damp - c))
    for w, factor in zip(ws, factors, strict=True):
        w.mul_(factor)
    return us
