"""Saves and restores what a forward pass may change: modules and random generators."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class ModuleState(NamedTuple):
    """The saved state of a module: its attributes, its buffers and its own random generators."""

    module: nn.Module
    attributes: dict[str, Any]
    buffers: dict[str, Tensor | None]
    generators: list[tuple[torch.Generator, Tensor]]

    @classmethod
    def of(cls, module: nn.Module) -> "ModuleState":
        """The state of a module now."""
        return cls(
            module,
            dict(vars(module)),
            {name: _cloned(buffer) for name, buffer in module._buffers.items()},
            [(x, x.get_state()) for x in vars(module).values() if isinstance(x, torch.Generator)],
        )

    @torch.no_grad()
    def restore(self) -> None:
        """Put the module back into this state."""
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


class Generators:
    """The generators that a model may draw from: torch's, Python's and NumPy's.

    Of the CUDA devices, only those of the model's weights count.
    """

    def __init__(self, model: nn.Module) -> None:
        self.devices = list({param.device for param in model.parameters() if param.is_cuda})

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Restore all generators at the end."""
        python, numpy = random.getstate(), _numpy_random()
        numpy_state = numpy and numpy.get_state()
        try:
            with torch.random.fork_rng(self.devices):
                yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.set_state(numpy_state)

    def seed(self, seed: int) -> None:
        """Seed all generators; `torch.manual_seed` would also seed those of other devices."""
        torch.default_generator.manual_seed(seed)
        for device in self.devices:
            torch.cuda.set_rng_state(torch.Generator(device).manual_seed(seed).get_state(), device)
        random.seed(seed)
        if numpy := _numpy_random():
            numpy.seed(seed % 2**32)

    def states(self) -> list[Tensor]:
        """The states of all generators, which change with every number drawn."""
        states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self.devices)]
        states.append(torch.tensor(random.getstate()[1], device="cpu"))
        if numpy := _numpy_random():
            _, key, position, *_ = numpy.get_state()
            states.append(torch.tensor([*key.tolist(), position], device="cpu"))
        return states


def _numpy_random() -> Any:
    """NumPy's generator if NumPy has been imported: only then can a model draw from it."""
    return getattr(sys.modules.get("numpy"), "random", None)
