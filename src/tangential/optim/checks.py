"""Checks of weights, gradients and states before a step, so that it never fails half-way.

Most functions return the end of an error message, or None if nothing is wrong. They run for every
tensor at every step, so a message is only built if there is a problem.
"""

import math
from typing import Any

import torch
from torch import Tensor

from tangential.backends import StepOptions, native, sharded, triton


def check_weight(param: Any, state: dict[str, Any], owner: str) -> None:
    """Check a weight that has a gradient, its gradient and its state.

    Raises:
        RuntimeError: the gradient is sparse, or the memory of a tensor was freed.
        ValueError: the gradient or a part of the state does not fit the weight.
    """
    if param.grad.layout != torch.strided:
        raise RuntimeError(
            f"{owner} does not support sparse gradients: the gradient of a weight of shape "
            f"{tuple(param.shape)} is {param.grad.layout}"
        )
    buffers = {name: x for name, x in state.items() if name != "step"}
    for name, x in {"data": param, "gradient": param.grad, **buffers}.items():
        _raise_if(ValueError, wrong_kind(x, param) or wrong_device(x, param), name, param)
    for name, x in {"data": param, "gradient": param.grad, **buffers, **state}.items():
        _raise_if(RuntimeError, isinstance(x, Tensor) and sharded.freed(x), name, param)
        _raise_if(ValueError, name not in ("gradient", "step") and wrong_view(x), name, param)
    if "step" in state and not (param.is_meta and getattr(state["step"], "is_meta", False)):
        _raise_if(ValueError, wrong_count(state["step"]), "step", param)


def _raise_if(error: type[Exception], problem: str | bool | None, name: str, param: Tensor) -> None:
    if problem:
        raise error(f"{name} of a weight of shape {tuple(param.shape)} {problem}")


def check_capture(params: list[Tensor], options: StepOptions, owner: str) -> None:
    """Raise a RuntimeError if a CUDA graph that is being captured would not repeat this step."""
    if not any(p.is_cuda for p in params):
        return
    if not torch.cuda.is_current_stream_capturing():
        return
    counts_steps = options.rule == "adam" or options.low_precision == "stochastic"
    if counts_steps and not options.capturable:
        raise RuntimeError(
            f"{owner} counts its steps on the host, and the CUDA graph that is being captured "
            "would repeat this one: use capturable=True, or step outside of the graph"
        )
    if isinstance(options.lr, Tensor) and options.lr.is_cpu:
        raise RuntimeError(
            "lr is a tensor on the CPU, which the CUDA graph that is being captured cannot read: "
            "use a number, or move it to the device of the weights"
        )


def check_lr(lr: Any, params: list[Tensor]) -> None:
    """Raise a ValueError if a tensor lr is neither on the CPU nor on the device of its weights."""
    if not isinstance(lr, Tensor) or lr.is_cpu:
        return
    for param in params:
        if param.grad is not None and param.device != lr.device:
            raise ValueError(
                f"lr must be on the CPU or with its weights on {param.device}, got one on "
                f"{lr.device}"
            )


DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex32, torch.complex64, torch.complex128),
}


def wrong_kind(x: Any, weight: Tensor) -> str | None:
    """Why x cannot be a gradient or buffer of a weight; its dtype may be wider."""
    if not isinstance(x, Tensor):
        return f"is {x!r:.80}, expected a tensor"
    if x.layout != torch.strided:
        return f"is {x.layout}, expected a dense tensor"
    if x.shape != weight.shape:
        return f"has shape {tuple(x.shape)}, expected the weight's {tuple(weight.shape)}"
    if x.dtype not in DTYPES:
        return f"is {x.dtype}, expected a floating-point or complex tensor of 16 bits or more"
    if x.is_complex() != weight.is_complex():
        return f"is {x.dtype} and the weight {weight.dtype}: expected both real or both complex"
    return None


def wrong_view(x: Tensor) -> str | None:
    """Why a step cannot write to a weight or buffer."""
    if x.is_neg() or x.is_conj():
        return (
            "is a lazy negation or conjugate, which cannot be written to: call resolve_neg() "
            "or resolve_conj()"
        )
    if not x.is_contiguous() and any(
        n > 1 and stride == 0 for n, stride in zip(x.shape, x.stride(), strict=True)
    ):
        return "is expanded, so its elements share memory: call contiguous()"
    return None


def wrong_count(x: Any) -> str | None:
    """Why x cannot be a state's number of steps."""
    try:
        unread = isinstance(x, Tensor) and x.is_cuda
        fits = x.numel() == 1 if unread else 0 <= float(x) < math.inf
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fits = False
    return None if fits else f"is {x!r:.80}, expected a number of steps"


def wrong_device(x: Tensor, weight: Tensor) -> str | None:
    """Why a gradient or buffer does not match its weight in its device or in being a DTensor."""
    if x.device != weight.device:
        return (
            f"is on {x.device}, the weight on {weight.device}: move the model before its first step"
        )
    if sharded.has_own_dispatch(x) == sharded.has_own_dispatch(weight):
        return None
    is_dtensor = sharded.is_dtensor(x)
    if is_dtensor == sharded.is_dtensor(weight):
        return None
    kinds = ("a DTensor", "a plain tensor")
    kind, expected = kinds if is_dtensor else reversed(kinds)
    return (
        f"is {kind}, the weight {expected}: load sharded states with torch.distributed.checkpoint"
    )


def check_kernel(fused: bool | None, params: list[Tensor]) -> None:
    """Raise a RuntimeError if `fused` is True, but the kernel for these weights is missing."""
    on_gpu = bool(params) and all(param.is_cuda for param in params)
    if fused and (missing := triton.reason() if on_gpu else native.reason()):
        raise RuntimeError(f"fused is True, but {missing}")
