"""One weight after another, by the formulas of `maths`: the reference, with the least memory."""

from collections.abc import Iterator
from typing import Any

import torch

from tangential import maths
from tangential.backends.batch import State, StepOptions, Tensors, WeightState
from tangential.backends.rows import as_real, widen


def batches(weights: list[WeightState]) -> Iterator[list[WeightState]]:
    """Every weight by itself."""
    return ([weight] for weight in weights)


def adam(grads: Tensors, states: list[State], options: StepOptions) -> Tensors:
    """Advance Adam's moments; return the updates u, before the learning rate."""
    (g,), (state,) = grads, states
    m, v = widen(state["exp_avg"]), widen(state["exp_avg_sq"])
    step = state["step"].double()  # in float32, 1 - beta2**step would have five digits
    rule: Any = {"betas": options.betas, "eps": options.eps, "nesterov": options.nesterov}
    m, v, u = maths.adam(torch, g, m, v, maths.bias_corrections(step, options.betas), **rule)
    as_real(state["exp_avg"]).copy_(m)
    as_real(state["exp_avg_sq"]).copy_(v)
    return [u]


def sgd(grads: Tensors, states: list[State], options: StepOptions) -> Tensors:
    """Advance SGD's momentum; return the updates u, before the learning rate."""
    (g,), (state,) = grads, states
    buffer = as_real(state["momentum_buffer"])
    rule = {name: getattr(options, name) for name in ("momentum", "dampening", "nesterov")}
    p, u = maths.sgd(g, widen(buffer), **rule)
    buffer.copy_(p)
    return [u]


RULES = {"adam": adam, "sgd": sgd}
