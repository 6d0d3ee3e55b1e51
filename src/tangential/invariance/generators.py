"""The random generators that a forward pass may draw from: torch's, Python's and NumPy's."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def devices_of(model: nn.Module) -> list[torch.device]:
    """The CUDA devices of a model's weights."""
    return list({p.device for p in model.parameters() if p.is_cuda})


@contextmanager
def unchanged_generators(devices: list[torch.device]) -> Iterator[None]:
    """All generators are afterwards what they were."""
    numpy = _numpy()
    states = random.getstate(), numpy and numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        if numpy:
            numpy.random.set_state(states[1])


def seed_generators(devices: list[torch.device], seed: int) -> None:
    """Seed all of them; no device but the model's, as `torch.manual_seed` would."""
    torch.default_generator.manual_seed(seed)
    for device in devices:
        state = torch.Generator(device).manual_seed(seed).get_state()
        torch.cuda.set_rng_state(state, device)
    random.seed(seed)
    if numpy := _numpy():
        numpy.random.seed(seed % 2**32)


def generator_states(devices: list[torch.device]) -> list[Tensor]:
    """What tells whether anything was drawn."""
    states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    states.append(torch.tensor(random.getstate()[1], device="cpu"))
    if numpy := _numpy():
        _, key, position, *_ = numpy.random.get_state()
        states.append(torch.tensor([*key.tolist(), position], device="cpu"))
    return states


def _numpy() -> Any:
    """NumPy, if something has imported it: only then can a model draw from it."""
    return sys.modules.get("numpy")
