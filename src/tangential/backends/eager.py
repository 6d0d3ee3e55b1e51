"""One weight after another, by the formulas of `maths`: the reference, and the least memory."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.rows import Rows, real, wide

State = dict[str, Tensor]

TOGETHER = False  # of sharded weights, one after another asks other processes for its sums


def batches(params: list[Tensor], rows: list[Rows | None]) -> Iterator[list[int]]:
    """Every weight by itself."""
    return ([i] for i in range(len(params)))


def adam(grads: list[Tensor], states: list[State], group: dict[str, Any]) -> list[Tensor]:
    """Advance Adam's moments; return the updates u, before the learning rate."""
    (g,), (state,) = grads, states
    betas = group["betas"]
    if torch.compiler.is_compiling():  # Inductor's cache would keep the first value of b ** step
        betas = [state["step"].new_full((), beta, dtype=torch.float64) for beta in betas]
    m, v, u = maths.adam(
        torch,
        g,
        wide(state["exp_avg"]),
        wide(state["exp_avg_sq"]),
        state["step"].double(),  # in float32, 1 - beta2**step keeps five digits
        betas=betas,
        eps=group["eps"],
        nesterov=group["nesterov"],
    )
    real(state["exp_avg"]).copy_(m)
    real(state["exp_avg_sq"]).copy_(v)
    return [u]


def sgd(grads: list[Tensor], states: list[State], group: dict[str, Any]) -> list[Tensor]:
    """Advance SGD's momentum; return the updates u, before the learning rate."""
    (g,), (state,) = grads, states
    buffer = real(state["momentum_buffer"])
    p, u = maths.sgd(
        g,
        wide(buffer),
        momentum=group["momentum"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
    )
    buffer.copy_(p)
    return [u]


RULES = {"adam": adam, "sgd": sgd}
