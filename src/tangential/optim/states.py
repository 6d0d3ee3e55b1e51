"""What a step remembers of a weight: which tensors, and in which dtypes."""

from typing import Any

import torch
from torch import Tensor

from tangential.backends.rounding import narrow

State = dict[str, Tensor]
Group = dict[str, Any]


def completed(
    state: State, param: Tensor, group: Group, buffers: tuple[str, ...], *, counts: bool
) -> State:
    """The state of a weight with all that a step needs, in dtypes that a step takes.

    Args:
        state: What there is, which is completed in place.
        param: The weight.
        group: Its options.
        buffers: Names of the moments.
        counts: Whether the optimizer's rule needs the number of steps.
    """
    rounding = group["low_precision"] if narrow(param) else None
    if counts or rounding == "stochastic":
        state["step"] = _count(state.get("step", 0.0))
    for name in (*buffers, *(("compensation",) if rounding == "kahan" else ())):
        dtype = param.dtype if name == "compensation" else moment_dtype(param, group)
        x = state.get(name)
        if x is None:
            state[name] = torch.zeros_like(param, dtype=dtype)
        elif x.dtype != param.dtype and x.dtype != _widened(param):
            state[name] = x.to(dtype)  # the model was cast
    return state


def moment_dtype(param: Tensor, group: Group) -> torch.dtype:
    """The dtype of the moments: the weight's, or float32 at least where `state_dtype` says so."""
    return param.dtype if group["state_dtype"] is None else _widened(param)


def _widened(param: Tensor) -> torch.dtype:
    return torch.promote_types(param.dtype, torch.float32)


def _count(step: Any) -> Tensor:
    """A number of steps on the CPU, where no step waits for a device to read it."""
    if isinstance(step, Tensor) and step.is_cpu and step.is_floating_point() and step.dim() == 0:
        return step
    return torch.as_tensor(step, dtype=torch.float32, device="cpu").detach().clone().reshape(())
