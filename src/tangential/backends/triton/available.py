"""What Triton can step: devices, options, weights."""

import os
from functools import cache
from importlib.util import find_spec

import torch

from tangential.backends.batch import StepOptions, WeightState
from tangential.backends.native import fields, has_blocks, is_dense, is_plain

MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # of weights


@cache
def reason() -> str:
    """Why Triton is missing; "" if it is installed."""
    return "" if find_spec("triton") else "Triton is not installed: pip install triton"


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def runs_on(device: torch.device) -> bool:
    """Whether Triton can step weights on a device."""
    return not reason() and device.type == ("cpu" if interpreted() else "cuda")


def wanted(options: StepOptions) -> bool:
    """Whether Triton should step those weights of a group that it supports: if `fused` is True.

    It is not the default, because it has not been measured on a GPU. Caution and `project_buffer`
    need products that the kernels do not have.
    """
    unsupported = options.caution or options.project_buffer
    return options.fused is True and not (unsupported or reason())


def takes(weight: WeightState, options: StepOptions) -> bool:
    """Whether the kernels can step a weight: dense, on the device, its units contiguous blocks."""
    param, grad = weight.param, weight.param.grad
    assert grad is not None
    names = [name for name in fields(options) if name in weight.state]
    parts = [param, grad, *(weight.state[name] for name in names if name != "step")]
    if not all(is_plain(x) and x.device == param.device for x in parts):
        return False
    if param.dtype not in DTYPES or grad.dtype != param.dtype or not runs_on(param.device):
        return False
    moments = {weight.state[name].dtype for name in MOMENTS[options.rule]}
    if len(moments) > 1 or not moments <= {param.dtype, torch.float32}:
        return False
    if options.low_precision == "stochastic" and not param.is_contiguous():
        return False  # its random bits depend on the order of the elements
    return is_dense(param, parts) and has_blocks(param, weight.rows, options.units.row_axis)
