"""What a step needs of weights, gradients and states, so that it never fails half-way."""

from typing import Any

import torch
from torch import Tensor

from tangential.backends.sharded import is_dtensor, local


def check_kind(x: Any, weight: Tensor, name: str, of: str) -> None:
    """Check that a gradient or buffer is an array such as its weight; dtypes may differ in width.

    Args:
        x: What stands in the weight's place.
        weight: The weight.
        name: What to call `x`: "exp_avg".
        of: Whose it is: "weight 3".

    Raises:
        ValueError: says what is wrong with `x`.
    """
    problem = None
    if not isinstance(x, Tensor):
        problem = f"is {x!r:.80}, expected a tensor"
    elif x.layout != torch.strided:
        problem = f"is {x.layout}, expected a dense tensor"
    elif x.shape != weight.shape:
        problem = f"has shape {tuple(x.shape)}, expected the weight's {tuple(weight.shape)}"
    elif not (x.is_floating_point() or x.is_complex()):
        problem = f"is {x.dtype}, expected a floating-point or complex tensor"
    elif x.is_complex() != weight.is_complex():
        problem = f"is {x.dtype} and the weight {weight.dtype}: expected both real or both complex"
    if problem:
        raise ValueError(f"{name} of {of} {problem}")


def check_step_count(x: Any, of: str) -> None:
    """Check that a state's `step` is a number of steps.

    Raises:
        ValueError: says what it is instead.
    """
    try:
        fits = x.numel() == 1 if isinstance(x, Tensor) else float(x) >= 0
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(f"step of {of} is {x!r:.80}, expected a number of steps")
    if isinstance(x, Tensor):
        check_memory(x, "step", of)


def check_place(x: Tensor, weight: Tensor, name: str, of: str) -> None:
    """Check that a gradient or buffer is where its weight is, and in memory.

    Raises:
        ValueError: it is on another device, or only one of the two is a DTensor.
        RuntimeError: its memory was freed.
    """
    if x.device != weight.device:
        raise ValueError(
            f"{name} of {of} is on {x.device}, the weight on {weight.device}: "
            "move the model before its first step"
        )
    if is_dtensor(x) != is_dtensor(weight):
        kinds = ["a DTensor" if is_dtensor(one) else "a plain tensor" for one in (x, weight)]
        raise ValueError(
            f"{name} of {of} is {kinds[0]}, the weight {kinds[1]}: "
            "load sharded states with torch.distributed.checkpoint"
        )
    check_memory(x, name, of)


def check_memory(x: Tensor, name: str, of: str) -> None:
    """Check that the memory of a tensor was not freed, in part or as a whole.

    Raises:
        RuntimeError: it was.
    """
    if not in_memory(x):
        raise RuntimeError(
            f"{name} of {of} is not in memory: its storage has {x.untyped_storage().nbytes()} "
            "bytes. Restore what was freed or offloaded before the step"
        )


def in_memory(x: Tensor) -> bool:
    """Whether the storage of x has all its elements: `untyped_storage().resize_(0)` frees them."""
    x = local(x)
    if torch.compiler.is_compiling() or has_own_dispatch(x) or not x.numel():
        return True
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    needed = (x.storage_offset() + last + 1) * x.dtype.itemsize
    return bool(x.untyped_storage().nbytes() >= needed)


def has_own_dispatch(x: Tensor) -> bool:
    """Whether x is of a kind (DTensor, say) that need not have its values in memory."""
    own = type(x).__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    return own is not Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
