"""A model's loss as a fixed function of its weights: of copies, re-seeded, in general position."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from tangential.backends import real
from tangential.invariance.calls import called
from tangential.invariance.generators import devices_of, generator_states, seed_generators
from tangential.invariance.precision import FLOAT64, AtLeast, Precision

Loss = Callable[[nn.Module, Any], Tensor]


class Probe:
    """Loss and gradients of a model that the probe owns: the same numbers however often asked.

    Before every pass buffers and attributes are put back and the generators seeded, so that
    dropout, noise, running statistics and counters do not differ from one pass to the next.

    Args:
        model: Is changed: all weights get gradients.
        loss: Loss of (model, batch); by default the outputs' inner product with a random
            direction, another for every batch, which no normalisation makes constant.
        seed: Of directions, dropout and noise.
        precision: Of all computations.
        as_is: Let the model compute in whatever precision it chooses.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        seed: int,
        precision: Precision = FLOAT64,
        *,
        as_is: bool = False,
    ) -> None:
        self.model, self.loss, self.seed, self.noisy = model, loss, seed, False
        self.precision, self.as_is = precision, as_is
        self.devices = devices_of(model)
        self.foreign: list[Tensor] = []  # leaves of the last loss that are not of this model
        self.params = dict(model.named_parameters())
        for param in self.params.values():
            param.requires_grad_(param.is_floating_point() or param.is_complex())
        self.starts = [_Start.of(module) for module in model.modules()]

    def gradients(self, batch: Any, number: int) -> dict[str, Tensor]:
        """The gradient of every weight that has one; `number` is the batch's, from 0.

        Raises:
            ValueError: the loss is no finite scalar, or does not depend on the weights.
        """
        self.model.zero_grad()
        with self._exact(), torch.enable_grad():
            self._backward(batch, number)
        grads = {n: p.grad for n, p in self.params.items() if p.grad is not None}
        self.model.zero_grad()
        dense = {n: g.to_dense() if g.layout != torch.strided else g for n, g in grads.items()}
        for name, grad in dense.items():
            if not real(grad).isfinite().all():
                raise ValueError(f"the gradient of {name} is not finite on batch {number}")
        return dense

    def _backward(self, batch: Any, number: int) -> None:
        """Gradients of these weights alone: other leaves, such as a loss's proxies, get none.

        `backward(inputs=...)` would be shorter, but leaves out what a reentrant checkpoint holds.
        """
        loss = self._differentiable(batch, number)
        own = {id(param) for param in self.params.values()}
        self.foreign = [x for x in _leaves(loss) if id(x) not in own]
        grads = [x.grad for x in self.foreign]
        for x in self.foreign:
            x.grad = None
        try:
            loss.backward()
        finally:
            for x, grad in zip(self.foreign, grads, strict=True):
                x.grad = grad

    def _differentiable(self, batch: Any, number: int) -> Tensor:
        loss = self._loss(batch, number)
        if loss.requires_grad:
            return loss
        if self.loss is None:
            raise ValueError(
                f"the output of the model has no gradient on batch {number}: "
                "remove torch.no_grad, inference_mode or detach from its forward"
            )
        raise ValueError(
            f"the loss of batch {number} does not depend on the weights of the model that it "
            "was given: pass a differentiable function of that model"
        )

    @torch.enable_grad()  # a forward may take gradients, as of an energy
    def value(self, batch: Any, number: int, changed: dict[str, Tensor]) -> float:
        """The loss with some weights replaced."""
        with self._exact(), self.replaced(changed):
            return self._loss(batch, number).item()

    def _loss(self, batch: Any, number: int) -> Tensor:
        for start in self.starts:
            start.restore()
        seed = (self.seed + number) % 2**63
        seed_generators(self.devices, seed)
        before = generator_states(self.devices)
        loss = self.loss(self.model, batch) if self.loss else self._scalar(batch, seed)
        after = generator_states(self.devices)
        self.noisy |= any(not torch.equal(x, y) for x, y in zip(before, after, strict=False))
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.isfinite().all():
            shown = loss.tolist() if isinstance(loss, Tensor) and loss.numel() == 1 else type(loss)
            raise ValueError(f"the loss of batch {number} is {shown}, allowed is a finite scalar")
        return loss.reshape(())

    def _scalar(self, batch: Any, seed: int) -> Tensor:
        """The inner product of all outputs with a random direction."""
        generator = torch.Generator().manual_seed(seed)
        outputs = called(self.model, batch)
        leaves = [x for x in pytree.tree_leaves(outputs) if _inexact(x)]
        if not leaves and hasattr(outputs, "__dict__"):  # of a class of the user's
            leaves = [x for x in pytree.tree_leaves(vars(outputs)) if _inexact(x)]
        if not leaves:
            raise ValueError(
                f"the model returns no floating-point tensor, but {type(outputs).__name__}: "
                "pass loss=, a function of (model, batch)"
            )
        parts = []
        for leaf in map(real, leaves):
            direction = torch.randn(
                leaf.shape, generator=generator, dtype=torch.float64, device="cpu"
            ).to(leaf)
            parts.append((leaf * direction).sum() / max(leaf.numel(), 1) ** 0.5)
        return torch.stack([part.to(parts[0]) for part in parts]).sum()

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """What a model casts or makes anew, zeros for a token or a mask, is no narrower."""
        if self.as_is:
            yield
            return
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.precision.dtype)
        try:
            with AtLeast(self.precision.dtype):
                yield
        finally:
            torch.set_default_dtype(before)

    @contextmanager
    def replaced(self, changed: dict[str, Tensor]) -> Iterator[None]:
        """Weights of these names have these values meanwhile."""
        kept = {name: self.params[name].detach().clone() for name in changed}
        try:
            self._write(changed)
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.params[name].copy_(value)

    @contextmanager
    def without(self, names: list[str]) -> Iterator[None]:
        """Weights of these names are zero meanwhile."""
        with self.replaced({name: torch.zeros_like(self.params[name]) for name in names}):
            yield

    @contextmanager
    def batch_statistics(self, names: list[str]) -> Iterator[None]:
        """The normalisations of these names work by the batch's statistics meanwhile."""
        norms = {id(self.model.get_submodule(name)) for name in names}
        starts = [start for start in self.starts if id(start.module) in norms]
        for start in starts:
            start.attributes["training"] = True
        try:
            yield
        finally:
            for start in starts:
                start.attributes["training"] = start.module.training = False


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors that `loss.backward()` gives a gradient."""
    seen, open_, leaves = set(), [loss.grad_fn], []
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        open_.extend(following for following, _ in node.next_functions)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            leaves.append(leaf)
    return leaves


class _Start(NamedTuple):
    """A module as it was at first: its attributes, buffers and own generators."""

    module: nn.Module
    attributes: dict[str, Any]
    buffers: dict[str, Tensor | None]
    generators: list[tuple[torch.Generator, Tensor]]

    @classmethod
    def of(cls, module: nn.Module) -> "_Start":
        return cls(
            module,
            dict(vars(module)),
            {name: _cloned(buffer) for name, buffer in module._buffers.items()},
            [(x, x.get_state()) for x in vars(module).values() if isinstance(x, torch.Generator)],
        )

    @torch.no_grad()
    def restore(self) -> None:
        vars(self.module).clear()
        vars(self.module).update(self.attributes)
        for generator, state in self.generators:
            generator.set_state(state)
        if isinstance(buffers := self.module._buffers, dict):
            buffers.clear()
            buffers.update({name: _cloned(buffer) for name, buffer in self.buffers.items()})
            return
        for name, buffer in self.buffers.items():  # a ScriptModule's can only be written to
            if buffer is not None:
                self.module._buffers[name].copy_(buffer)


def _cloned(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.clone()


def _inexact(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def frozen_norms(model: nn.Module) -> list[str]:
    """The normalisations that work by running statistics: BatchNorm in eval mode and its like."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and not module.training and module.running_mean is not None
    ]
