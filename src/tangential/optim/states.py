"""The optimizer state of a weight: its tensors and their dtypes."""

from typing import Any

import torch
from torch import Tensor

from tangential.backends import StepOptions, WeightState, is_narrow


def complete(weight: WeightState, options: StepOptions, buffers: tuple[str, ...]) -> None:
    """Add missing tensors to the state of a weight, and convert tensors of an old dtype.

    Args:
        weight: Its state is completed in place.
        options: The options of its group.
        buffers: Names of the moments.
    """
    state, param = weight.state, weight.param
    rounding = options.low_precision if is_narrow(param) else None
    if options.rule == "adam" or rounding == "stochastic":
        state["step"] = _step_count(state.get("step", 0.0))
    for name in (*buffers, *(("compensation",) if rounding == "kahan" else ())):
        wide = options.wide_moments and name != "compensation"
        dtype = moment_dtype(param, wide=wide)
        x = state.get(name)
        if x is None:
            state[name] = torch.zeros_like(param, dtype=dtype)
        elif x.dtype != param.dtype and x.dtype != moment_dtype(param, wide=True):
            state[name] = x.to(dtype)  # the model was cast


def moment_dtype(param: Tensor, *, wide: bool) -> torch.dtype:
    """The dtype of the moments: the weight's, or at least float32 if `wide`."""
    return torch.promote_types(param.dtype, torch.float32) if wide else param.dtype


def _step_count(step: Any) -> Tensor:
    """The step count as a CPU tensor, so that reading it does not wait for a device."""
    if isinstance(step, Tensor) and step.is_cpu and step.is_floating_point() and step.dim() == 0:
        return step
    return torch.as_tensor(step, dtype=torch.float32, device="cpu").detach().clone().reshape(())
