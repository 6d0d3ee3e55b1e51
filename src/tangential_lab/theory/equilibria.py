"""How fast weights turn once decay and steps balance each other, by simulation.

Decay shortens a scale-invariant weight, steps lengthen it; where the two balance, its angle per
step no longer depends on the gradient, only on lr, decay and momentum.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from tangential.optim import SGDP, AdamP
from tangential_lab.theory.claims import DERIVED, Lemma, Setting, angle_rad, drawn, known, stepped

SGD_RUN = Setting(shape=(32, 64), lr=0.1, decay=0.01, steps=2500)
ADAM_RUN = Setting(shape=(32, 64), lr=0.2, decay=0.05, steps=2500)
# with less decay left AdamP comes slowly to its equilibrium; this one is not far from the start
MATCHED_RUN = Setting(shape=(32, 64), lr=0.16, decay=0.0625, wd_ratio="matched", steps=2500)


class Equilibrium(NamedTuple):
    """An optimizer, the squared angle per step that it comes to, and what shows it soon.

    >>> EQUILIBRIA["AdamP"].squared_angle(Setting(lr=0.5, decay=0.25, wd_ratio=0.5))
    0.125
    """

    build: Callable[[Tensor, Setting], Optimizer]
    squared_angle: Callable[[Setting], float]
    setting: Setting


def _sgdp(weight: Tensor, s: Setting) -> Optimizer:
    return SGDP([weight], s.lr, s.beta, weight_decay=s.decay, wd_ratio=s.wd_ratio)


def _adamp(weight: Tensor, s: Setting) -> Optimizer:
    return AdamP([weight], s.lr, (s.beta, 0.999), weight_decay=s.decay, wd_ratio=s.wd_ratio)


def _sgd_squared(s: Setting) -> float:
    return 2 * s.lr * s.decay / (1 + s.beta)


def _adamw_squared(s: Setting) -> float:
    return 2 * s.lr * s.decay * (1 - s.beta) / (1 + s.beta)


EQUILIBRIA = {
    "SGD, coupled decay": Equilibrium(
        lambda weight, s: SGD([weight], s.lr, s.beta, weight_decay=s.decay), _sgd_squared, SGD_RUN
    ),
    "SGDP": Equilibrium(
        _sgdp, lambda s: 2 * s.lr * s.decay * float(s.wd_ratio) / (1 - s.beta), SGD_RUN
    ),
    "SGDP, matched": Equilibrium(_sgdp, _sgd_squared, SGD_RUN._replace(wd_ratio="matched")),
    "AdamW": Equilibrium(
        lambda weight, s: AdamW([weight], s.lr, (s.beta, 0.999), weight_decay=s.decay),
        _adamw_squared,
        ADAM_RUN,
    ),
    "AdamP": Equilibrium(_adamp, lambda s: 2 * s.lr * s.decay * float(s.wd_ratio), ADAM_RUN),
    "AdamP, matched": Equilibrium(_adamp, _adamw_squared, MATCHED_RUN),
}


def equilibrium(name: str, setting: Setting | None = None) -> Lemma:
    """The root mean square angle per step at equilibrium, in radians, to first order in lr decay.

    sqrt(2 lr decay x), where x is 1 / (1 + beta) for SGD with coupled decay, (1 - beta) /
    (1 + beta) for AdamW, r / (1 - beta) for SGDP and r for AdamP, r being wd_ratio. With r =
    "matched" the projected optimizers turn as fast as SGD and AdamW do.

    Args:
        name: A key of EQUILIBRIA.
        setting: What it is measured on, over the second half of the steps; the first is for
            getting there. By default the run of EQUILIBRIA.

    Raises:
        ValueError: there is no such name.

    >>> f"{equilibrium('AdamP', Setting(lr=0.2, decay=0.1, steps=500)).claimed:.4f}"
    '0.0632'
    """
    known("name", name, EQUILIBRIA)
    build, squared_angle, usual = EQUILIBRIA[name]
    setting = setting or usual
    weight, draw = drawn(setting)
    total, count = 0.0, 0
    for step, before in enumerate(stepped(build(weight, setting), weight, draw, setting.steps)):
        if step >= setting.steps // 2:
            total += float(angle_rad(before, weight.detach()).square().mean())
            count += 1
    claimed, measured = math.sqrt(squared_angle(setting)), math.sqrt(total / count)
    error = abs(measured / claimed - 1)
    return Lemma(f"{name}: angle at equilibrium, rad", DERIVED, claimed, measured, error, False)
