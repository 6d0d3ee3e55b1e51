"""What decides equilibrium is read from an optimizer's class and options."""

import pytest
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from tangential import SGDP, AdamP, project
from tangential.monitor.updates import Settings, settings_of


class Published(Optimizer):
    """Has the options of the published AdamP or SGDP, whatever its name."""

    def __init__(self, params, **options):
        super().__init__(params, {"lr": 0.1, "delta": 0.1, "wd_ratio": 0.1, **options})


class OwnAdamW(AdamW):
    """May do anything in its step."""


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda p: AdamP(p, weight_decay=0.5), Settings(0.5, False, 0.9, 0.1, True, True)),
        (
            lambda p: SGDP(p, lr=0.1, momentum=0.5, weight_decay=0.5, wd_ratio="matched"),
            Settings(1.0, False, 0.5, 1 / 3, True, False),
        ),
        (
            lambda p: Published(p, betas=(0.8, 0.999), weight_decay=0.5),
            Settings(0.5, False, 0.8, 0.1, True, True),
        ),
        (
            lambda p: Published(p, momentum=0.5, weight_decay=0.5),
            Settings(1.0, False, 0.5, 0.1, True, False),
        ),
        (lambda p: AdamW(p, weight_decay=0.5), Settings(0.5, False, 0.9, 1.0, False, True)),
        (
            lambda p: Adam(p, weight_decay=0.5, decoupled_weight_decay=True),
            Settings(0.5, False, 0.9, 1.0, False, True),
        ),
        (
            lambda p: SGD(p, lr=0.1, momentum=0.5, dampening=0.5, weight_decay=0.5),
            Settings(0.5, True, 0.5, 1.0, False, False),
        ),
        (
            lambda p: project(Adam(p), weight_decay=0.5),
            Settings(0.5, False, 0.9, 0.1, True, True),
        ),
        (
            lambda p: project(SGD(p, lr=0.1, momentum=0.5), weight_decay=0.5, wd_ratio="matched"),
            Settings(1.0, False, 0.5, 1 / 3, True, False),
        ),
        (lambda p: project(Adam(p), radial="brake"), None),
        (lambda p: Adam(p, weight_decay=0.5), None),
        (lambda p: OwnAdamW(p, weight_decay=0.5), None),
    ],
)
def test_settings_follow_from_class_and_options(make, settings):
    optimizer = make([torch.nn.Parameter(torch.ones(2, 2))])
    result = settings_of(optimizer, optimizer.param_groups[0])
    assert result == (settings and pytest.approx(settings))
