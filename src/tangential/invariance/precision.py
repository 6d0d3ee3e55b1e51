"""The precision of a proof: float64, whatever a model casts to, or else float32."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Precision(NamedTuple):
    """A dtype for all computations, and what its rounding leaves where there should be zero.

    Attributes:
        dtype: Of weights, inputs and everything computed from them.
        eps_left: Share of a normalisation's eps that is kept: enough to divide by where a channel
            is constant, too little to break an invariance.
        noise: A unit with less than this share of the model's largest |w||g| has no gradient.
        unchanged: A loss that changes by less, relative to its value, has not changed.
        sure: Largest sqrt(elements) |cos| that cannot be chance on a single batch.
    """

    dtype: torch.dtype
    eps_left: float
    noise: float
    unchanged: float
    sure: float


FLOAT64 = Precision(torch.float64, eps_left=1e-12, noise=1e-9, unchanged=1e-9, sure=1e-6)
FLOAT32 = Precision(torch.float32, eps_left=1e-4, noise=1e-5, unchanged=1e-5, sure=1e-4)

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


def widened(x: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Every floating-point tensor in a tree as `dtype` at least, every complex one likewise."""
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.to(_wider(leaf.dtype, dtype)), x)


def _wider(dtype: torch.dtype, least: torch.dtype) -> torch.dtype:
    """The wider of two dtypes; integers and booleans stay what they are.

    >>> _wider(torch.bfloat16, torch.float32), _wider(torch.complex64, torch.float64)
    (torch.float32, torch.complex128)
    """
    if dtype.is_complex:
        least = _COMPLEX[least]
    elif not dtype.is_floating_point:
        return dtype
    return least if dtype.itemsize < least.itemsize else dtype


class AtLeast(TorchDispatchMode):
    """Every operation computes in `dtype` at least, also where a model asks for a narrower one.

    Many models cast inside their forward: `x.float()` in a normalisation, `torch.zeros(...,
    dtype=torch.float32)`, an autocast block, a constant that is no buffer. Without this mode a
    float64 copy would mix dtypes and fail, or lose its precision there.

    >>> with AtLeast(torch.float64):
    ...     (torch.ones(2, dtype=torch.float64).half() @ torch.ones(2, 3)).dtype
    torch.float64
    """

    supports_higher_order_operators = True

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` on wider arguments, except what it returns a view of or writes to."""
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload) or func.is_view:
            return func(*args, **kwargs)
        kept = {arg.name for arg in func._schema.arguments if arg.alias_info}
        names = [arg.name for arg in func._schema.arguments]
        wide = [x if n in kept else self._wide(x) for n, x in zip(names, args, strict=False)]
        return func(*wide, **{n: x if n in kept else self._wide(x) for n, x in kwargs.items()})

    def _wide(self, x: Any) -> Any:
        if isinstance(x, torch.dtype):
            return _wider(x, self.dtype)
        return widened(x, self.dtype) if isinstance(x, (Tensor, list, tuple)) else x
