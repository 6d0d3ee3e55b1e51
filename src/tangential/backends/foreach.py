"""Many weights per operation, by torch's multi-tensor kernels: few launches."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tangential.backends.rows import Rows, real, wide
from tangential.backends.sharded import is_dtensor

State = dict[str, Tensor]
Tensors = list[Tensor]

# Elements a batch on the CPU: larger temporaries go back to the system after every step, and
# faulting them in again doubles the time (ResNet-18 on two cores: 44 ms against 76).
CHUNK = 2**22


def batches(params: Tensors, rows: list[Rows | None]) -> Iterable[list[int]]:
    """The weights of one device, dtype and holders, the never projected ones apart."""
    alike: dict[Any, list[int]] = {}
    elements = 0
    for i, param in enumerate(params):
        elements += param.numel()
        chunk = elements // CHUNK if param.is_cpu else 0
        holders = (units := rows[i]) and units.holders
        key = chunk, param.device, param.dtype, is_dtensor(param), holders
        alike.setdefault(key, []).append(i)
    return alike.values()


def adam(grads: Tensors, states: list[State], group: dict[str, Any]) -> Tensors:
    """Advance Adam's moments; return the updates u, before the learning rate."""
    b1, b2 = group["betas"]
    steps = [state["step"].item() for state in states]
    ms = [wide(state["exp_avg"]) for state in states]
    vs = [wide(state["exp_avg_sq"]) for state in states]
    torch._foreach_lerp_(ms, grads, 1 - b1)
    torch._foreach_mul_(vs, b2)
    torch._foreach_addcmul_(vs, grads, grads, 1 - b2)
    _store(states, "exp_avg", ms)
    _store(states, "exp_avg_sq", vs)
    corrections = [1 - b1**t for t in steps]
    us = torch._foreach_sqrt(vs)
    torch._foreach_mul_(
        us, [c / (1 - b2**t) ** 0.5 for c, t in zip(corrections, steps, strict=True)]
    )
    torch._foreach_add_(us, [c * group["eps"] for c in corrections])
    torch._foreach_reciprocal_(us)
    torch._foreach_mul_(us, torch._foreach_lerp(grads, ms, b1) if group["nesterov"] else ms)
    return list(us)


def sgd(grads: Tensors, states: list[State], group: dict[str, Any]) -> Tensors:
    """Advance SGD's momentum; return the updates u, before the learning rate."""
    ps = [wide(state["momentum_buffer"]) for state in states]
    if group["momentum"]:
        torch._foreach_mul_(ps, group["momentum"])
    else:
        torch._foreach_zero_(ps)
    torch._foreach_add_(ps, grads, alpha=1 - group["dampening"])
    _store(states, "momentum_buffer", ps)
    return list(torch._foreach_add(grads, ps, alpha=group["momentum"])) if group["nesterov"] else ps


def _store(states: list[State], name: str, values: Tensors) -> None:
    """Round what was widened back into the states; the rest was changed in place."""
    buffers = [real(state[name]) for state in states]
    if buffers[0].dtype != values[0].dtype:
        torch._foreach_copy_(buffers, values)


RULES = {"adam": adam, "sgd": sgd}
