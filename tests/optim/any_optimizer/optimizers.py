"""The optimizers that `project` is tested with, by the names in docs/project.md."""

from functools import partial

import pytest
import pytorch_optimizer
import timm.optim
import torch
from torch import nn


def net():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 3)
    )


def train(model, optimizer, steps, seed=0):
    """Train on made data; the same seed gives the same data."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        x = torch.randn(8, 2, 4, 4, generator=generator).to(dtype)
        y = torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x).float(), y).backward()
        optimizer.step()


def equal(model, other):
    return all(
        torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True)
    )


INNER = {
    "torch.optim.ASGD": lambda p: torch.optim.ASGD(p, lr=0.01),
    "torch.optim.Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1),
    "torch.optim.Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "torch.optim.Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "torch.optim.Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "torch.optim.AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0),
    "torch.optim.Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "torch.optim.Muon": lambda p: torch.optim.Muon(p, lr=0.01, weight_decay=0),
    "torch.optim.NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "torch.optim.RAdam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "torch.optim.RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
    "torch.optim.Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "torch.optim.SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "timm.optim.Lamb": lambda p: timm.optim.Lamb(p, lr=0.01, weight_decay=0),
    "timm.optim.Lion": lambda p: timm.optim.Lion(p, lr=0.01),
    "timm.optim.Muon": lambda p: timm.optim.Muon(p, lr=0.01),
}


INNER |= {
    f"pytorch_optimizer.{name}": partial(getattr(pytorch_optimizer, name), lr=0.01, weight_decay=0)
    for name in ("ADOPT", "AdEMAMix", "Adan", "CAME", "MARS", "Prodigy", "Shampoo")
}


def _schedule_free(name):
    def build(p):
        module = pytest.importorskip("schedulefree")
        return getattr(module, name)(p, lr=0.01)

    return build


INNER |= {
    f"schedulefree.{name}": _schedule_free(name)
    for name in ("AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree")
}
