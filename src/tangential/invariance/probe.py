"""A model's loss as a fixed function of its weights: every call gives the same numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tangential.backends import as_real
from tangential.invariance.batches import output
from tangential.invariance.copies import FLOAT64, AtLeast, Precision, normal_like
from tangential.invariance.state import Generators, ModuleState

Loss = Callable[[nn.Module, Any], Tensor]


class Probe:
    """Loss and gradients of a model that the probe owns; all weights now require gradients.

    Before every pass, buffers and attributes are restored and the generators are seeded. So
    dropout, noise, running statistics and counters do not differ from one pass to the next.

    Args:
        model: The model.
        loss: Loss of (model, batch). By default the inner product of the outputs with a random
            direction, which differs between batches; no normalisation makes it constant.
        seed: Seed of random directions, dropout and noise.
        precision: The precision of all computations.
        as_is: Let the model compute in the precision that it chooses.
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
        self.model, self.loss, self.seed = model, loss, seed
        self.precision, self.as_is = precision, as_is
        self.noisy = False  # whether a pass has drawn random numbers
        self.foreign: list[Tensor] = []  # leaves of the last loss that do not belong to the model
        self.gate_axis: int = getattr(model, "row_axis", 0)
        self.params = dict(model.named_parameters())
        for param in self.params.values():
            param.requires_grad_(_differentiable(param))
        self.generators = Generators(model)
        self.states = [ModuleState.of(module) for module in model.modules()]

    def gradients(self, batch: Any, number: int) -> dict[str, Tensor]:
        """The gradient of every weight that has one; `number` counts batches from 0."""
        self.model.zero_grad()
        with self._exact(), torch.enable_grad():
            self._backward(batch, number)
        grads = {n: p.grad for n, p in self.params.items() if p.grad is not None}
        self.model.zero_grad()
        dense = {n: g.to_dense() if g.layout != torch.strided else g for n, g in grads.items()}
        for name, grad in dense.items():
            if not as_real(grad).isfinite().all():
                raise ValueError(f"the gradient of {name} is not finite on batch {number}")
        return dense

    def _backward(self, batch: Any, number: int) -> None:
        """Give gradients to this model's weights, not to other leaves such as proxies in the loss.

        `backward(inputs=...)` would be shorter, but misses weights in a reentrant checkpoint.
        """
        loss = self._loss(batch, number)
        if not loss.requires_grad:
            raise ValueError(
                f"the output of the model has no gradient on batch {number}: "
                "remove torch.no_grad, inference_mode or detach from its forward"
                if self.loss is None
                else f"the loss of batch {number} does not depend on the weights of the model that "
                "it was given: pass a differentiable function of that model"
            )
        params = {id(param) for param in self.params.values()}
        self.foreign = [x for x in _leaves(loss) if id(x) not in params]
        grads = [x.grad for x in self.foreign]
        for x in self.foreign:
            x.grad = None
        try:
            loss.backward()
        finally:
            for x, grad in zip(self.foreign, grads, strict=True):
                x.grad = grad

    def check_independent(self, model: nn.Module) -> None:
        """Refuse a copy whose last loss used a weight of the original model."""
        foreign = {id(x) for x in self.foreign}
        for name, param in model.named_parameters():
            if id(param) in foreign:
                raise ValueError(
                    f"the audit works on a copy of the model, but the copy uses {name} of the "
                    "model: a function (a replaced forward, a hook, the loss) holds the model or "
                    "its layers. Undo the replacement, or use a subclass or types.MethodType, "
                    "which can be copied"
                )

    @torch.enable_grad()  # a forward may take gradients, for example of an energy
    def value(self, batch: Any, changed: dict[str, Tensor]) -> float:
        """The loss on the first batch with some weights replaced."""
        with self._exact(), self.replaced(changed):
            return self._loss(batch, 0).item()

    def _loss(self, batch: Any, number: int) -> Tensor:
        for state in self.states:
            state.restore()
        seed = (self.seed + number) % 2**63
        self.generators.seed(seed)
        before = self.generators.states()
        loss = self.loss(self.model, batch) if self.loss else self._random_sum(batch, seed)
        after = self.generators.states()
        self.noisy |= any(not torch.equal(x, y) for x, y in zip(before, after, strict=False))
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.isfinite().all():
            shown = loss.tolist() if isinstance(loss, Tensor) and loss.numel() == 1 else type(loss)
            raise ValueError(f"the loss of batch {number} must be a finite scalar, got {shown}")
        return loss.reshape(())

    def _random_sum(self, batch: Any, seed: int) -> Tensor:
        """The inner product of all outputs with a random direction."""
        generator = torch.Generator().manual_seed(seed)
        outputs = output(self.model, batch)
        leaves = [*filter(_differentiable, pytree.tree_leaves(outputs))]
        if not leaves and hasattr(outputs, "__dict__"):  # an object of a user's class
            leaves = [*filter(_differentiable, pytree.tree_leaves(vars(outputs)))]
        if not leaves:
            raise ValueError(
                "the model returns no floating-point tensor, but an object of type "
                f"{type(outputs).__name__}: pass loss=, a function of (model, batch)"
            )
        parts = [
            (leaf * normal_like(leaf, generator)).sum() / max(leaf.numel(), 1) ** 0.5
            for leaf in map(as_real, leaves)
        ]
        return torch.stack([part.to(parts[0]) for part in parts]).sum()

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """Compute in the probe's dtype or wider, also where the model casts or creates tensors."""
        before = torch.get_default_dtype()
        if not self.as_is:
            torch.set_default_dtype(self.precision.dtype)
        try:
            with nullcontext() if self.as_is else AtLeast(self.precision.dtype):
                yield
        finally:
            torch.set_default_dtype(before)

    @contextmanager
    def replaced(self, changed: dict[str, Tensor]) -> Iterator[None]:
        """Give the named weights these values inside the context."""
        before = {name: self.params[name].detach().clone() for name in changed}
        try:
            for name, value in changed.items():
                self.params[name].detach().copy_(value)
            yield
        finally:
            for name, value in before.items():
                self.params[name].detach().copy_(value)

    @contextmanager
    def batch_statistics(self, names: list[str]) -> Iterator[None]:
        """Let the named normalisations use the batch's statistics inside the context."""
        norms = {id(self.model.get_submodule(name)) for name in names}
        states = [state for state in self.states if id(state.module) in norms]
        for state in states:
            state.attributes["training"] = True
        try:
            yield
        finally:
            for state in states:
                state.attributes["training"] = state.module.training = False


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors to which `loss.backward()` gives a gradient."""
    seen, nodes, leaves = set(), [loss.grad_fn], []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes.extend(following for following, _ in node.next_functions)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            leaves.append(leaf)
    return leaves


def _differentiable(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
