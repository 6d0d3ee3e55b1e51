"""Copies of a model: unchanged, or in general position and a wide precision for the proofs."""

from copy import deepcopy
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tangential.backends import as_real

# Names of the constant that a normalisation adds to a variance or a norm.
EPS_NAMES = ("eps", "epsilon", "variance_epsilon", "layer_norm_eps", "layer_norm_epsilon")

SHIFT = 0.1  # how far weights are moved to general position, relative to their root mean square


class Precision(NamedTuple):
    """A dtype for all computations, and thresholds for its rounding errors.

    `eps_left` is the share of a normalisation's eps that is kept: enough to avoid 0 / 0 where a
    channel is constant, too little to break an invariance.
    """

    dtype: torch.dtype
    eps_left: float
    noise: float  # a unit with less than this share of the model's largest |w||g| has no gradient
    unchanged: float  # largest relative change of a loss that counts as no change
    sure: float  # largest sqrt(elements) |cos| that proves an invariance on a single batch


FLOAT64 = Precision(torch.float64, eps_left=1e-12, noise=1e-9, unchanged=1e-9, sure=1e-6)
FLOAT32 = Precision(torch.float32, eps_left=1e-4, noise=1e-5, unchanged=1e-5, sure=1e-4)

COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


def widened(tree: Any, dtype: torch.dtype = torch.float64) -> Any:
    """The tree with its real and complex tensors in `dtype` at least; others stay as they are."""
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.to(_wider(leaf.dtype, dtype)), tree)


def _wider(dtype: torch.dtype, least: torch.dtype) -> torch.dtype:
    """The wider of two dtypes; integers and booleans stay as they are."""
    if dtype.is_complex:
        least = COMPLEX[least]
    elif not dtype.is_floating_point:
        return dtype
    return least if dtype.itemsize < least.itemsize else dtype


class AtLeast(TorchDispatchMode):
    """Every operation computes in `dtype` at least, even if the model asks for a narrower one.

    Many models cast inside their forward: `x.float()` in a normalisation, `torch.zeros(...,
    dtype=torch.float32)`, an autocast block, a constant that is not a buffer. Without this mode a
    float64 copy would mix dtypes and fail, or lose precision there.

    >>> with AtLeast(torch.float64):
    ...     (torch.ones(2, dtype=torch.float64).half() @ torch.ones(2, 3)).dtype
    torch.float64
    """

    supports_higher_order_operators = True

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` on wider arguments, except arguments that it writes to or returns views of."""
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload) or func.is_view:
            return func(*args, **kwargs)
        names = [arg.name for arg in func._schema.arguments]
        aliased = {arg.name for arg in func._schema.arguments if arg.alias_info}
        wide = [x if n in aliased else self._wide(x) for n, x in zip(names, args, strict=False)]
        return func(*wide, **{n: x if n in aliased else self._wide(x) for n, x in kwargs.items()})

    def _wide(self, x: Any) -> Any:
        if isinstance(x, torch.dtype):
            return _wider(x, self.dtype)
        return widened(x, self.dtype) if isinstance(x, (Tensor, list, tuple)) else x


@torch.no_grad()  # otherwise the copy of a ScriptModule has a grad_fn
def copied(model: nn.Module) -> nn.Module:
    """A deep copy that shares what cannot be copied, such as a lock, a file or a process group.

    A tensor with a grad_fn is detached: the old `weight_norm` and `prune` keep such tensors, and so
    do models that store a hidden state. If a module refuses to be copied, TypeError is raised.
    """
    tensors = [*model.parameters(), *model.buffers()]
    # not copied while we search for objects that cannot be copied
    leaves = {id(x): x for x in tensors if x.is_leaf}
    shared: dict[int, Any] = {}
    while True:
        try:
            deepcopy(model, leaves | shared)
            copy = deepcopy(model, dict(shared))
            break
        except Exception as error:
            x = _uncopyable(error.__traceback__)
            if x is None or id(x) in shared or isinstance(x, (nn.Module, nn.Parameter)):
                raise TypeError(
                    f"the audit needs a deep copy of the model, but copy.deepcopy failed: {error}"
                ) from error
            shared[id(x)] = x.detach().clone() if isinstance(x, Tensor) else x
    for new, old in zip(copy.parameters(), model.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    return copy


def _uncopyable(trace: TracebackType | None) -> Any:
    """The object at which `deepcopy` failed: the argument of its innermost call."""
    innermost = None
    while trace is not None:
        if trace.tb_frame.f_code is deepcopy.__code__:
            innermost = trace.tb_frame.f_locals["x"]
        trace = trace.tb_next
    return innermost


@torch.no_grad()
def in_general_position(model: nn.Module, seed: int, precision: Precision) -> nn.Module:
    """A copy in another precision, with nearly no eps and without special values such as zero.

    The constants inside normalisations nearly vanish, and every trainable weight moves a little.
    Otherwise a bias of zero, a layer scale of 1e-6 or a head of zeros would make other weights seem
    invariant or without effect, which is true only before the first step.
    """
    copy: Any = copied(model)._apply(lambda x: widened(x, precision.dtype))
    for module in copy.modules():
        for name in EPS_NAMES:
            if isinstance(value := vars(module).get(name), float) and 0 < value < 1:
                setattr(module, name, value * precision.eps_left)
    if hasattr(copy, "eps_share"):  # a model of Keras
        copy.eps_share = precision.eps_left
    generator = torch.Generator().manual_seed(seed)
    for param in copy.parameters():
        if param.requires_grad and param.numel():
            values = as_real(param)
            values += _distance(values) * normal_like(values, generator)
    return copy


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape, dtype and device of x: the same on every device."""
    return torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x)


def _distance(values: Tensor) -> float:
    """Standard deviation of the move: at least SHIFT for a vector, large for a constant matrix."""
    size = values.square().mean().sqrt().item()
    if values.numel() == max(values.shape, default=1):
        return SHIFT * max(1.0, size)
    if (values == values.flatten()[0]).all():
        return (len(values) / values.numel()) ** 0.5
    return SHIFT * size
