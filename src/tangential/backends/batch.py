"""Weights that are worked on together: their gradients, updates and rounding."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends.rounding import all_loaded, store_all
from tangential.backends.rows import all_wide, real
from tangential.backends.sharded import gradient_of, local

State = dict[str, Tensor]
Group = dict[str, Any]
Tensors = list[Tensor]


class Batch(NamedTuple):
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


def advanced(
    advance: Any, params: Tensors, states: list[State], places: list[int], group: Group
) -> Batch:
    """The batch, with its states advanced."""
    moving = [i for i, param in enumerate(params) if param.grad is not None]
    shards = [local(p) for p in params]
    states = [{name: local(x) for name, x in state.items()} for state in states]
    ws = all_loaded(shards, states, group)
    if isinstance(group["lr"], Tensor):
        group = {**group, "lr": group["lr"].to(ws[0].device)}
    states = [states[i] for i in moving]
    batch = Batch(params, moving, places, shards, ws, [], [], states, group)
    if not moving:
        return batch
    gs = _gradients(batch)
    if steps := [state["step"] for state in states if "step" in state]:
        torch._foreach_add_(steps, 1)
    return batch._replace(gs=gs, us=advance(gs, states, group))


def _gradients(batch: Batch) -> Tensors:
    grads = [gradient_of(param).resolve_conj() for param in batch.of_moving(batch.params)]
    gs = all_wide(grads, batch.ws[0].dtype)
    return list(torch._foreach_neg(gs)) if batch.group["maximize"] else gs


def apply(batch: Batch, us: Tensors) -> None:
    """Take the step w <- w - lr u and round it to what the weights keep."""
    ws, shards, lr = batch.of_moving(batch.ws), batch.of_moving(batch.shards), batch.group["lr"]
    # Inductor's cache of graphs keeps the first value of a float that is an alpha
    if isinstance(lr, Tensor) or torch.compiler.is_compiling():
        torch._foreach_sub_(ws, [lr * u for u in us])
    else:
        torch._foreach_add_(ws, us, alpha=-lr)
    if ws[0].dtype != real(shards[0]).dtype:
        params, places = batch.of_moving(batch.params), batch.of_moving(batch.places)
        store_all(shards, ws, batch.states, params, places, batch.group)
