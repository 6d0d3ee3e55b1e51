"""What the tests of the monitor share: a small net that learns real digits, and optimizers."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from tangential import SGDP, AdamP, Monitor, project

STEPS = 50


X, Y = (torch.tensor(x) for x in load_digits(return_X_y=True))


SGDM = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2}


ADAM = {"lr": 1e-2, "weight_decay": 1e-1}


OPTIMIZERS = {
    "AdamP": lambda p: AdamP(p, **ADAM),
    "AdamP foreach": lambda p: AdamP(p, foreach=True, **ADAM),
    "AdamP eager": lambda p: AdamP(p, foreach=False, **ADAM),
    "AdamP nesterov": lambda p: AdamP(p, nesterov=True, **ADAM),
    "AdamP caution": lambda p: AdamP(p, caution=True, lr=1e-2),
    "AdamP weight": lambda p: AdamP(p, projection="weight", **ADAM),
    "AdamP off": lambda p: AdamP(p, projection="off", **ADAM),
    "SGDP": lambda p: SGDP(p, **SGDM),
    "SGDP nesterov buffer": lambda p: SGDP(p, nesterov=True, **SGDM),
    "SGDP buffer": lambda p: SGDP(p, project_buffer=True, **SGDM),
    "AdamW": lambda p: torch.optim.AdamW(p, **ADAM),
    "Adam": lambda p: torch.optim.Adam(p, **ADAM),
    "SGD": lambda p: torch.optim.SGD(p, **SGDM),
    "SGD dampening": lambda p: torch.optim.SGD(p, dampening=0.5, **SGDM),
    "project Adam": lambda p: project(torch.optim.Adam(p, lr=1e-2)),
    "project RMSprop": lambda p: project(torch.optim.RMSprop(p, lr=1e-3), radial="brake"),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


EVERY_KIND = pytest.mark.parametrize(
    "make",
    [
        lambda p: AdamP(p, lr=1e-2),
        lambda p: AdamP(p, lr=1e-2, foreach=True),
        lambda p: AdamP(p, lr=1e-2, caution=True),
        lambda p: SGDP(p, lr=1e-2),
        lambda p: torch.optim.AdamW(p, lr=1e-2),
        lambda p: torch.optim.SGD(p, lr=1e-2),
    ],
    ids=["AdamP", "foreach", "caution", "SGDP", "AdamW", "SGD"],
)


def net(dtype=torch.float64):
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)  # a weight of norm zero has no direction
    return nn.Sequential(*layers).to(dtype)


def losses(model, steps=STEPS, batch=32):
    """Yield the losses of a small real training; the caller takes the steps."""
    dtype = next(model.parameters()).dtype
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(0, len(X), (batch,), generator=generator)
        images = (X[chosen].view(-1, 1, 8, 8) / 16).to(dtype)
        yield cross_entropy(model(images), Y[chosen])


def losses_batch(number):
    """A batch of images."""
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64)


def run(build, steps=4, every=1, model=None, **options):
    """What a monitor logs of a short training, by step."""
    model, logged = model or net(), {}
    optimizer = build(model.parameters())
    with Monitor(model, optimizer, every, lambda v, s: logged.update({s: v}), **options):
        for loss in losses(model, steps):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return logged


def train(model, optimizer, steps=2):
    for loss in losses(model, steps):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def fail_a_step(optimizer):
    """A step that raises, because of an invalid learning rate, which is then put back."""
    lr = optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr"):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = lr
