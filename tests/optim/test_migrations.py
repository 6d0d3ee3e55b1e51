"""docs/migrate.md: 10 steps of another optimizer and 10 of ours are 20 of ours."""

import warnings

import adamp
import pytest
import pytorch_optimizer
import timm.optim
import torch
from torch import nn

from tangential import SGDP, AdamP

SHAPES = [(8, 3, 3, 3), (6, 5), (7,)]
ADAMP = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "wd_ratio": 0.3, "nesterov": True}
SGDP_ = {"lr": 0.01, "weight_decay": 0.01, "momentum": 0.9, "dampening": 0.1}
EXACT = 1e-12
ROUTES = {
    "torch.optim.AdamW": (torch.optim.AdamW, AdamP, {"lr": 0.01, "weight_decay": 0.1}),
    "torch.optim.Adam": (torch.optim.Adam, AdamP, {"lr": 0.01}),
    "torch.optim.SGD": (torch.optim.SGD, SGDP, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "adamp.AdamP": (adamp.AdamP, AdamP, ADAMP),
    "adamp.SGDP": (adamp.SGDP, SGDP, SGDP_ | {"nesterov": True}),
    "adamp.SGDP, not Nesterov": (adamp.SGDP, SGDP, SGDP_),
    "timm.optim.AdamP": (timm.optim.AdamP, AdamP, ADAMP),
    "timm.optim.SGDP": (timm.optim.SGDP, SGDP, SGDP_),
    "pytorch_optimizer.AdamP": (pytorch_optimizer.AdamP, AdamP, ADAMP),
    "pytorch_optimizer.AdamP, tiny eps": (pytorch_optimizer.AdamP, AdamP, ADAMP | {"eps": 1e-30}),
    "pytorch_optimizer.SGDP": (pytorch_optimizer.SGDP, SGDP, SGDP_),
}
EXTRA = {
    **{name: {"projection": "off"} for name in ROUTES if name.startswith("torch")},
    "adamp.SGDP, not Nesterov": {"project_buffer": True},
}


def step(optimizers, copies, number):
    """A step with the same gradients; those of even steps are orthogonal to every row."""
    generator = torch.Generator().manual_seed(number)
    for p, q in zip(*copies, strict=True):
        w, g = p.detach(), torch.randn(p.shape, generator=generator, dtype=p.dtype)
        if number % 2 == 0 and w.dim() > 1:
            axes = tuple(range(1, w.dim()))
            g -= (g * w).sum(axes, keepdim=True) / (w * w).sum(axes, keepdim=True) * w
        p.grad, q.grad = g, g.clone()
    for optimizer in optimizers:
        optimizer.step()


def distance(name):
    """How far the changed run ends from 20 steps here, relative to the largest weight."""
    theirs, ours, options = ROUTES[name]
    first = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in SHAPES]
    second = [nn.Parameter(p.detach().clone()) for p in first]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages
        old = theirs(first, **options)
    extra = EXTRA.get(name, {})
    twin = ours(second, **options, **extra)
    for number in range(10):
        step([old, twin], [first, second], number)
    new = ours(first, lr=1.0, **extra)
    new.load_state_dict(old.state_dict())
    assert {key: new.param_groups[0][key] for key in options} == options
    for number in range(10, 20):
        step([new, twin], [first, second], number)
    pairs = zip(first, second, strict=True)
    return max(((p - q).abs().max() / q.abs().max()).item() for p, q in pairs)


@pytest.mark.parametrize("name", [name for name in ROUTES if name != "pytorch_optimizer.AdamP"])
def test_a_changed_run_equals_one_of_ours(name):
    assert distance(name) < EXACT


def test_pytorch_optimizers_eps_makes_a_difference():
    """It adds eps before the bias correction, which makes eps 31.6 times as large at first."""
    assert EXACT < distance("pytorch_optimizer.AdamP") < 1e-6


@pytest.mark.parametrize("option", [{"weight_decouple": False}, {"fixed_decay": True}])
def test_other_decays_of_pytorch_optimizer_are_refused(option):
    weight = nn.Parameter(torch.ones(3, 2))
    saved = pytorch_optimizer.AdamP([weight], weight_decay=0.1, **option).state_dict()
    with pytest.raises(ValueError, match=r"has no counterpart here: remove both options"):
        AdamP([weight]).load_state_dict(saved)
