"""Which weights the kernel can take: on the CPU, dense, their units contiguous blocks."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential.backends.batch import StepOptions, WeightState
from tangential.backends.native.compiled import kernel
from tangential.backends.rows import Rows, as_real
from tangential.backends.sharded import has_own_dispatch

DTYPES = ("float32", "float64", "bfloat16", "float16")  # of real views


def fields(options: StepOptions) -> tuple[str, ...]:
    """The names of the tensors of a state that the kernel takes, in its order; "" for none."""
    moments = ("exp_avg", "exp_avg_sq") if options.rule == "adam" else ("momentum_buffer", "")
    return (*moments, "compensation" if options.low_precision == "kahan" else "", "step")


def layout_of(weight: WeightState, options: StepOptions) -> tuple[Any, ...] | None:
    """The layout of a weight as the kernel reads it; None if the kernel cannot take the weight."""
    param, grad, rows = weight.param, weight.param.grad, weight.rows
    assert grad is not None
    buffers = {name: weight.state[name] for name in fields(options) if name in weight.state}
    step = buffers.pop("step", None)
    if step is not None and not (is_plain(step) and step.is_cpu and step.numel() == 1):
        return None
    if step is not None and step.dtype != torch.float32:
        return None
    parts = [param, grad, *buffers.values()]
    if has_own_dispatch(param) or not all(map(is_plain, parts[1:])):
        return None
    if param.is_conj() or param.is_neg() or not all(x.is_cpu for x in parts):
        return None
    dtypes = _dtypes(param, grad, buffers)
    if dtypes is None or not is_dense(param, parts):
        return None
    if not has_blocks(param, rows, options.units.row_axis):
        return None
    units, unit_size = (rows.units, rows.unit_size) if rows else (0, 0)
    kinds = [kernel.Dtype[name] for name in dtypes]
    return (*kinds, units, unit_size, as_real(param).numel(), weight.position)


def _dtypes(param: Tensor, grad: Tensor, buffers: dict[str, Tensor]) -> list[str] | None:
    """Names of the real dtypes of a weight and its moments; None if the kernel lacks them."""
    low = buffers.get("compensation", param)
    moments = {x.dtype for name, x in buffers.items() if name != "compensation"}
    if {grad.dtype, low.dtype} != {param.dtype} or len(moments) != 1:
        return None
    if not moments <= {param.dtype, torch.promote_types(param.dtype, torch.float32)}:
        return None  # neither the weight's own dtype nor at least float32
    kinds = [x.to_real() if x.is_complex else x for x in (param.dtype, *moments)]
    names = [str(kind).removeprefix("torch.") for kind in kinds]
    return names if names[0] in DTYPES else None


def is_plain(x: Tensor) -> bool:
    """Whether x holds its values in memory as they are: no subclass, no lazy conj or neg."""
    return type(x) in (Tensor, Parameter) and not x.is_conj() and not x.is_neg()


def is_dense(weight: Tensor, parts: list[Tensor]) -> bool:
    """Whether the weight is dense, and `parts` have its shape and strides."""
    shape, strides = weight.shape, weight.stride()
    axes = sorted((i for i, n in enumerate(shape) if n > 1), key=strides.__getitem__)
    elements = 1
    for i in axes:
        if strides[i] != elements:
            return False
        elements *= shape[i]
    return all(x.shape == shape and all(x.stride(i) == strides[i] for i in axes) for x in parts)


def has_blocks(weight: Tensor, rows: Rows | None, row_axis: int) -> bool:
    """Whether the units of a dense weight are contiguous blocks."""
    if rows is None or rows.units == 1:
        return True
    return weight.stride(row_axis) * weight.shape[row_axis] == weight.numel()
