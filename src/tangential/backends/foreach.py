"""Many weights per operation, by torch's multi-tensor kernels: few launches."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.rounding import counts
from tangential.backends.rows import Rows, all_wide, real
from tangential.backends.sharded import groups_of, is_dtensor

State = dict[str, Tensor]
Tensors = list[Tensor]

# Elements a batch on the CPU: larger temporaries go back to the system after every step, and
# faulting them in again doubles the time (ResNet-18 on two cores: 44 ms against 76).
CHUNK = 2**22
LARGE_CHUNK = 2**26  # on other devices, where it bounds the memory of temporaries

TOGETHER = True  # the sums of all sharded weights travel at once; their updates wait for them


def batches(params: Tensors, rows: list[Rows | None]) -> Iterable[list[int]]:
    """The weights of one device, dtype and holders, the never projected ones apart.

    A batch has at most CHUNK elements on the CPU and LARGE_CHUNK elsewhere, or one weight. The
    batches of sharded weights are the same on all processes, whatever else has a gradient.
    """
    alike: dict[Any, list[int]] = {}
    elements: dict[Any, int] = {}
    for i, param in enumerate(params):
        holders = (units := rows[i]) and units.shard_groups
        key = param.device, param.dtype, is_dtensor(param), groups_of(param), holders
        elements[key] = elements.get(key, 0) + param.numel()
        chunk = elements[key] // (CHUNK if param.is_cpu else LARGE_CHUNK)
        alike.setdefault((chunk, key), []).append(i)
    return alike.values()


def adam(grads: Tensors, states: list[State], group: dict[str, Any]) -> Tensors:
    """Advance Adam's moments; return the updates u, before the learning rate."""
    b1, b2 = group["betas"]
    ms = all_wide([state["exp_avg"] for state in states])
    vs = all_wide([state["exp_avg_sq"] for state in states])
    torch._foreach_lerp_(ms, grads, 1 - b1)
    torch._foreach_mul_(vs, b2)
    torch._foreach_addcmul_(vs, grads, grads, 1 - b2)
    _store(states, "exp_avg", ms)
    _store(states, "exp_avg_sq", vs)
    corrections = [maths.bias_corrections(t, group["betas"]) for t in counts(states)]
    us = torch._foreach_sqrt(vs)
    torch._foreach_mul_(us, [first / second for first, second in corrections])
    torch._foreach_add_(us, [first * group["eps"] for first, _ in corrections])
    torch._foreach_reciprocal_(us)
    torch._foreach_mul_(us, torch._foreach_lerp(grads, ms, b1) if group["nesterov"] else ms)
    return list(us)


def sgd(grads: Tensors, states: list[State], group: dict[str, Any]) -> Tensors:
    """Advance SGD's momentum; return the updates u, before the learning rate."""
    ps = all_wide([state["momentum_buffer"] for state in states])
    if group["momentum"]:
        torch._foreach_mul_(ps, group["momentum"])
    else:
        torch._foreach_zero_(ps)
    torch._foreach_add_(ps, grads, alpha=1 - group["dampening"])
    _store(states, "momentum_buffer", ps)
    return list(torch._foreach_add(grads, ps, alpha=group["momentum"])) if group["nesterov"] else ps


def _store(states: list[State], name: str, values: Tensors) -> None:
    """Round what was widened back into the states; the rest was changed in place."""
    pairs = [(real(state[name]), value) for state, value in zip(states, values, strict=True)]
    if pairs := [(buffer, value) for buffer, value in pairs if buffer.dtype != value.dtype]:
        torch._foreach_copy_([buffer for buffer, _ in pairs], [value for _, value in pairs])


RULES = {"adam": adam, "sgd": sgd}
