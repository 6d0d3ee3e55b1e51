"""Many weights per operation, with torch's multi-tensor kernels, which need few launches."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tangential import maths
from tangential.backends.batch import State, StepOptions, Tensors, WeightState
from tangential.backends.rounding import counts
from tangential.backends.rows import as_real, widen_all
from tangential.backends.sharded import groups_of, is_dtensor

# Elements per batch on the CPU: larger temporaries return to the system after every step, and the
# page faults of allocating them again double the time (ResNet-18 on two cores: 44 ms against 76).
CHUNK = 2**22
LARGE_CHUNK = 2**26  # on other devices, where it bounds the memory of temporaries


def batches(weights: list[WeightState]) -> Iterable[list[WeightState]]:
    """Batches of equal device, dtype and shard groups; never-projected weights have their own.

    A batch has at most CHUNK elements on the CPU and LARGE_CHUNK elsewhere, or one weight. The
    batches of sharded weights are equal on all processes, whichever weights have a gradient.
    """
    alike: dict[Any, list[WeightState]] = {}
    elements: dict[Any, int] = {}
    for weight in weights:
        param, rows = weight.param, weight.rows
        of_units = rows and rows.shard_groups
        key = param.device, param.dtype, is_dtensor(param), groups_of(param), of_units
        elements[key] = elements.get(key, 0) + param.numel()
        chunk = elements[key] // (CHUNK if param.is_cpu else LARGE_CHUNK)
        alike.setdefault((chunk, key), []).append(weight)
    return alike.values()


def adam(grads: Tensors, states: list[State], options: StepOptions) -> Tensors:
    """Advance Adam's moments; return the updates u, before the learning rate.

    `maths.adam` in fewer passes: u = m / (sqrt(v) first / second + first eps), where `first` and
    `second` are the bias corrections.
    """
    b1, b2 = options.betas
    ms = widen_all([state["exp_avg"] for state in states])
    vs = widen_all([state["exp_avg_sq"] for state in states])
    torch._foreach_lerp_(ms, grads, 1 - b1)
    torch._foreach_mul_(vs, b2)
    torch._foreach_addcmul_(vs, grads, grads, 1 - b2)
    _store(states, "exp_avg", ms)
    _store(states, "exp_avg_sq", vs)
    factors, floors = _corrections(states, options, vs[0])
    divisors = torch._foreach_sqrt(vs)
    torch._foreach_mul_(divisors, factors)
    torch._foreach_add_(divisors, floors)
    ahead = torch._foreach_lerp(grads, ms, b1) if options.nesterov else ms
    return list(torch._foreach_div(ahead, divisors))


def _corrections(
    states: list[State], options: StepOptions, like: Tensor
) -> tuple[list[Any], list[Any]]:
    """Per weight `first / second` and `first * eps`: numbers, or tensors [] that were not read."""
    if options.capturable:
        steps = torch.stack([state["step"] for state in states]).double()
        first, second = maths.bias_corrections(steps, options.betas)
        factors, floors = (x.to(like.dtype) for x in (first / second, first * options.eps))
        return [*factors.unbind()], [*floors.unbind()]
    corrections = [maths.bias_corrections(t, options.betas) for t in counts(states)]
    factors = [first / second for first, second in corrections]
    return factors, [first * options.eps for first, _ in corrections]


def sgd(grads: Tensors, states: list[State], options: StepOptions) -> Tensors:
    """Advance SGD's momentum; return the updates u, before the learning rate."""
    ps = widen_all([state["momentum_buffer"] for state in states])
    if options.momentum:
        torch._foreach_mul_(ps, options.momentum)
    else:
        torch._foreach_zero_(ps)
    torch._foreach_add_(ps, grads, alpha=1 - options.dampening)
    _store(states, "momentum_buffer", ps)
    if not options.nesterov:
        return ps
    return list(torch._foreach_add(grads, ps, alpha=options.momentum))


def _store(states: list[State], name: str, values: Tensors) -> None:
    """Round and write back values that are copies; other states were changed in place."""
    pairs = [(as_real(state[name]), value) for state, value in zip(states, values, strict=True)]
    if pairs := [(buffer, value) for buffer, value in pairs if buffer.dtype != value.dtype]:
        torch._foreach_copy_([buffer for buffer, _ in pairs], [value for _, value in pairs])


RULES = {"adam": adam, "sgd": sgd}
