"""A small net, its training, and weights with made-up gradients."""

import torch
from torch import nn

from tangential import SGDP


def net():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 3)
    )


def train(model, optimizer, steps, seed=0, after=lambda: None):
    """Train on made data; the same seed gives the same data."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 2, 4, 4, generator=generator)
        y = torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        after()


def equal(model, other):
    return all(
        torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True)
    )


def usual(cls):
    return {"lr": 0.05} | ({"momentum": 0.9, "weight_decay": 1e-3} if cls is SGDP else {})


def weights():
    return [nn.Parameter(torch.randn(shape)) for shape in [(6, 4), (4,)]]


def given_gradients(params):
    for p in params:
        p.grad = torch.randn_like(p)
