"""What a step needs of weights, gradients and states, so that it never fails half-way.

Every function says what is wrong as the end of a sentence, or returns None: a step asks for each
tensor, so a sentence is only made where there is something to say.
"""

from typing import Any

import torch
from torch import Tensor

from tangential.backends.sharded import is_dtensor, local


def wrong_kind(x: Any, weight: Tensor) -> str | None:
    """What keeps x from being a gradient or buffer of a weight; its dtype may be wider."""
    if not isinstance(x, Tensor):
        return f"is {x!r:.80}, expected a tensor"
    if x.layout != torch.strided:
        return f"is {x.layout}, expected a dense tensor"
    if x.shape != weight.shape:
        return f"has shape {tuple(x.shape)}, expected the weight's {tuple(weight.shape)}"
    if not (x.is_floating_point() or x.is_complex()):
        return f"is {x.dtype}, expected a floating-point or complex tensor"
    if x.is_complex() != weight.is_complex():
        return f"is {x.dtype} and the weight {weight.dtype}: expected both real or both complex"
    return None


def wrong_count(x: Any) -> str | None:
    """What keeps x from being a state's number of steps."""
    try:
        fits = x.numel() == 1 if isinstance(x, Tensor) else float(x) >= 0
    except (TypeError, ValueError, OverflowError):
        fits = False
    return None if fits else f"is {x!r:.80}, expected a number of steps"


def wrong_place(x: Tensor, weight: Tensor) -> str | None:
    """What keeps a gradient or buffer from being where its weight is."""
    here, there = x.device, weight.device
    if here != there:
        return f"is on {here}, the weight on {there}: move the model before its first step"
    if has_own_dispatch(x) == has_own_dispatch(weight) or is_dtensor(x) == is_dtensor(weight):
        return None
    kinds = ["a DTensor" if is_dtensor(one) else "a plain tensor" for one in (x, weight)]
    return (
        f"is {kinds[0]}, the weight {kinds[1]}: "
        "load sharded states with torch.distributed.checkpoint"
    )


def freed(x: Tensor) -> str | None:
    """Whether the memory of x was freed, in part or as a whole (`untyped_storage().resize_(0)`)."""
    if has_own_dispatch(x) and has_own_dispatch(x := local(x)):
        return None
    size, offset = x.untyped_storage().nbytes(), x.storage_offset()
    if not x.numel() or (size == x.nbytes and offset == 0):
        return None
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    if size >= (offset + last + 1) * x.dtype.itemsize:
        return None
    return (
        f"is not in memory: its storage has {size} bytes. "
        "Restore what was freed or offloaded before the step"
    )


def has_own_dispatch(x: Tensor) -> bool:
    """Whether x is of a kind (DTensor, say) that need not have its values in memory."""
    own = type(x).__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    return own is not Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
