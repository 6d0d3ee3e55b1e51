"""Copies of a model: one as it is, one in general position for the proofs."""

from copy import deepcopy
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from tangential.backends import real
from tangential.invariance.precision import Precision, widened

# What normalisations call their constant.
EPS_NAMES = ("eps", "epsilon", "variance_epsilon", "layer_norm_eps", "layer_norm_epsilon")

# How far weights are moved to general position, in units of their root mean square.
SHIFT = 0.1


@torch.no_grad()  # the copy of a ScriptModule would have a history
def copied(model: nn.Module) -> nn.Module:
    """A deep copy that shares what cannot be copied: a lock, an open file, a process group.

    A tensor with a history (the old `weight_norm` and `prune` keep such, and so do models that
    store a hidden state) is copied as a value.

    Raises:
        TypeError: a module refuses to be copied.
    """
    tensors = [*model.parameters(), *model.buffers()]
    leaves = {id(x): x for x in tensors if x.is_leaf}  # not copied while we look for the others
    shared: dict[int, Any] = {}
    while True:
        try:
            deepcopy(model, leaves | shared)
            copy = deepcopy(model, dict(shared))
            break
        except Exception as error:
            x = _refused(error.__traceback__)
            if x is None or id(x) in shared or isinstance(x, (nn.Module, nn.Parameter)):
                raise TypeError(
                    f"the audit works on a deep copy of the model, but copy.deepcopy fails: {error}"
                ) from error
            shared[id(x)] = x.detach().clone() if isinstance(x, Tensor) else x
    for new, old in zip(copy.parameters(), model.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    return copy


def _refused(trace: TracebackType | None) -> Any:
    """The object that `deepcopy` failed at: the argument of its innermost call."""
    innermost = None
    while trace is not None:
        if trace.tb_frame.f_code is deepcopy.__code__:
            innermost = trace.tb_frame.f_locals["x"]
        trace = trace.tb_next
    return innermost


@torch.no_grad()
def in_general_position(model: nn.Module, seed: int, precision: Precision) -> nn.Module:
    """A copy in another precision that shows what holds for all weights, not for these.

    The constants inside normalisations all but vanish, and every trainable weight moves a little:
    a bias of zero, a layer scale of 1e-6 or a head of zeros would make weights look invariant, or
    without effect, that are so only before the first step.
    """
    model = copied(model)._apply(lambda x: widened(x, precision.dtype))
    for module in model.modules():
        for name in EPS_NAMES:
            if isinstance(value := vars(module).get(name), float) and 0 < value < 1:
                setattr(module, name, value * precision.eps_left)
    generator = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        if param.requires_grad and param.numel():
            values = real(param)
            noise = torch.randn(
                values.shape, generator=generator, dtype=torch.float64, device="cpu"
            )
            values += _distance(values) * noise.to(values)
    return model


def _distance(values: Tensor) -> float:
    """Standard deviation of the move: SHIFT at least for a vector, of a new draw if constant."""
    if values.numel() == max(values.shape, default=1):
        return SHIFT * max(1.0, _rms(values))
    if (values == values.flatten()[0]).all():
        return (len(values) / values.numel()) ** 0.5
    return SHIFT * _rms(values)


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()
