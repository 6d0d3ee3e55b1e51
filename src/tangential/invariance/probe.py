"""A model's loss as a fixed function of its weights: of copies, re-seeded, in general position."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from tangential.backends.rows import real

Loss = Callable[[nn.Module, Any], Tensor]

# What normalisations call their constant, and how much is left of it: enough to divide by where a
# channel is constant, too little to break an invariance.
EPS_NAMES = ("eps", "epsilon", "variance_epsilon", "layer_norm_eps", "layer_norm_epsilon")
EPS_LEFT = 1e-12

# How far weights are moved to general position, in units of their root mean square.
SHIFT = 0.1


class Probe:
    """Loss and gradients of a model that the probe owns: the same numbers however often asked.

    Before every pass buffers are put back and the generators seeded, so that dropout, noise and
    running statistics do not differ from one pass to the next.

    Args:
        model: Is changed: all weights get gradients.
        loss: Loss of (model, batch); by default the outputs' inner product with a random
            direction, another for every batch, which no normalisation makes constant.
        seed: Of directions, dropout and noise.
    """

    def __init__(self, model: nn.Module, loss: Loss | None, seed: int) -> None:
        self.model, self.seed, self.noisy = model, seed, False
        self.scalar = _Scalar(model, loss)
        self.params = dict(model.named_parameters())
        for param in self.params.values():
            param.requires_grad_(param.is_floating_point() or param.is_complex())
        self.buffers = {
            module: {k: b.clone() for k, b in module._buffers.items() if b is not None}
            for module in model.modules()
        }

    def gradients(self, batch: Any, number: int) -> dict[str, Tensor]:
        """The gradient of every weight that has one; `number` is the batch's, from 0.

        Raises:
            ValueError: the loss is no finite scalar, or does not depend on the weights.
        """
        self.model.zero_grad()
        with torch.enable_grad():
            loss = self._loss(batch, number)
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of batch {number} does not depend on the weights of the model that it "
                "was given: allowed is a differentiable function of that very model"
            )
        loss.backward()
        grads = {n: p.grad for n, p in self.params.items() if p.grad is not None}
        self.model.zero_grad()
        dense = {n: g.to_dense() if g.layout != torch.strided else g for n, g in grads.items()}
        for name, grad in dense.items():
            if not real(grad).sum(dtype=torch.float64).isfinite():
                raise ValueError(f"the gradient of {name} is not finite on batch {number}")
        return dense

    @torch.no_grad()
    def value(self, batch: Any, number: int, changed: dict[str, Tensor]) -> float:
        """The loss with some weights replaced."""
        return self._loss(batch, number, changed).item()

    def _loss(self, batch: Any, number: int, changed: dict[str, Tensor] | None = None) -> Tensor:
        for module, buffers in self.buffers.items():
            module._buffers.update({name: saved.clone() for name, saved in buffers.items()})
        torch.manual_seed(self.seed + number)
        before = _generators(self.params)
        weights = {f"model.{name}": value for name, value in (changed or {}).items()}
        loss = functional_call(self.scalar, weights, (batch, self.seed + number))
        after = _generators(self.params)
        self.noisy |= any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.isfinite().all():
            shown = loss.tolist() if isinstance(loss, Tensor) and loss.numel() == 1 else type(loss)
            raise ValueError(f"the loss of batch {number} is {shown}, allowed is a finite scalar")
        return loss.reshape(())

    @contextmanager
    def without(self, names: list[str]) -> Iterator[None]:
        """Weights of these names are zero meanwhile."""
        kept = {name: self.params[name].detach().clone() for name in names}
        with torch.no_grad():
            for name in names:
                self.params[name].zero_()
        try:
            yield
        finally:
            with torch.no_grad():
                for name in names:
                    self.params[name].copy_(kept[name])

    @contextmanager
    def batch_statistics(self, names: list[str]) -> Iterator[None]:
        """The normalisations of these names work by the batch's statistics meanwhile."""
        modules = [self.model.get_submodule(name) for name in names]
        for module in modules:
            module.training = True
        try:
            yield
        finally:
            for module in modules:
                module.training = False


class _Scalar(nn.Module):
    """The loss as a module, so that `functional_call` can replace weights in it."""

    def __init__(self, model: nn.Module, loss: Loss | None) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any, seed: int) -> Tensor:
        if self.loss is not None:
            return self.loss(self.model, batch)
        generator = torch.Generator().manual_seed(seed)
        leaves = [x for x in pytree.tree_leaves(_outputs(self.model, batch)) if _inexact(x)]
        if not leaves:
            raise ValueError("the model returns no floating-point tensor: give loss(model, batch)")
        parts = []
        for leaf in map(real, leaves):
            direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf)
            parts.append((leaf * direction).sum() / max(leaf.numel(), 1) ** 0.5)
        return torch.stack([part.to(parts[0]) for part in parts]).sum()


def _outputs(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    if not isinstance(batch, (tuple, list)):
        return batch(model) if callable(batch) else model(batch)
    try:
        return model(*batch)
    except TypeError as error:
        error.add_note("a batch that is a tuple is called as model(*batch): else give loss=")
        raise


def _inexact(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def _generators(params: Mapping[str, Tensor]) -> list[Tensor]:
    devices = {p.device for p in params.values() if p.is_cuda}
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]


def copied(model: nn.Module) -> nn.Module:
    """A deep copy; weights that are computed before every forward are copied as values.

    The old `torch.nn.utils.weight_norm` and `prune` keep such, and deepcopy refuses them.
    """
    attributes = (x for module in model.modules() for x in vars(module).values())
    computed = [x for x in attributes if isinstance(x, Tensor) and not x.is_leaf]
    return deepcopy(model, {id(x): x.detach().clone() for x in computed})


def widened(x: Any) -> Any:
    """Every floating-point tensor in a tree as float64 or complex128."""
    return pytree.tree_map(lambda leaf: _wide(leaf) if isinstance(leaf, Tensor) else leaf, x)


def _wide(x: Tensor) -> Tensor:
    if x.is_complex():
        return x.to(torch.complex128)
    return x.double() if x.is_floating_point() else x


@torch.no_grad()
def in_general_position(model: nn.Module, seed: int) -> nn.Module:
    """A copy in float64 that shows what holds for all weights, not for these.

    The constants inside normalisations all but vanish, and every trainable weight moves a little:
    a bias of zero, a layer scale of 1e-6 or a head of zeros would make weights look invariant, or
    without effect, that are so only before the first step.
    """
    model = copied(model)._apply(_wide)
    for module in model.modules():
        for name in EPS_NAMES:
            if isinstance(value := vars(module).get(name), float) and 0 < value < 1:
                setattr(module, name, value * EPS_LEFT)
    generator = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        if param.requires_grad and param.numel():
            values = real(param)
            noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
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


def frozen_norms(model: nn.Module) -> list[str]:
    """The normalisations that work by running statistics: BatchNorm in eval mode and its like."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and not module.training and module.running_mean is not None
    ]
