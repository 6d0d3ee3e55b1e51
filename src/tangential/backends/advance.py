"""Computes updates and applies them: load weights, advance states, round the new weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from tangential.backends.batch import Batch, State, StepOptions, Tensors, WeightState
from tangential.backends.rounding import all_loaded, store_all
from tangential.backends.rows import as_real, widen_all
from tangential.backends.sharded import gradient_of, local

Advance = Callable[[Tensors, list[State], StepOptions], Tensors]


def advanced(advance: Advance, weights: list[WeightState], options: StepOptions) -> Batch:
    """The batch of some weights, with their states advanced and their updates known."""
    shards = [local(weight.param) for weight in weights]
    states = [{name: local(x) for name, x in weight.state.items()} for weight in weights]
    ws = all_loaded(shards, states, options.low_precision)
    if isinstance(options.lr, Tensor):
        options = options._replace(lr=options.lr.to(ws[0].device))
    active = [i for i, weight in enumerate(weights) if weight.has_grad]
    states = [states[i] for i in active]
    batch = Batch(weights, options, shards, ws, active, states, [], [])
    if not active:
        return batch
    gs = _gradients(batch)
    if steps := [state["step"] for state in states if "step" in state]:
        torch._foreach_add_(steps, 1)
    return batch._replace(gs=gs, us=advance(gs, states, options))


def _gradients(batch: Batch) -> Tensors:
    weights = batch.of_active(batch.weights)
    grads = [gradient_of(weight.param).resolve_conj() for weight in weights]
    gs = widen_all(grads, batch.ws[0].dtype)
    return list(torch._foreach_neg(gs)) if batch.options.maximize else gs


def apply(batch: Batch, us: Tensors) -> None:
    """Take the step w <- w - lr u and round it to the dtype of the weights."""
    ws, lr = batch.of_active(batch.ws), batch.options.lr
    # Inductor's cache of graphs would keep the first value of a float that is passed as alpha
    if isinstance(lr, Tensor) or torch.compiler.is_compiling():
        torch._foreach_sub_(ws, [lr * u for u in us])
    else:
        torch._foreach_add_(ws, us, alpha=-lr)
    if ws[0].dtype != as_real(batch.shards[0]).dtype:
        store_all(batch)
