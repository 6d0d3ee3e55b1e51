"""How fast weights turn once decay and steps balance each other, by simulation.

Decay shortens a scale-invariant weight, and steps lengthen it. When the two balance, its angle per
step no longer depends on the gradient, only on lr, decay and momentum.
"""

import math
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from torch import Tensor
from torch.optim import SGD, Optimizer

from tangential import maths
from tangential_lab.theory.claims import (
    DERIVED,
    Build,
    Lemma,
    Simulation,
    adamp,
    adamw,
    angle_rad,
    check_choice,
    sgdp,
    take_steps,
)

SGD_RUN = Simulation(shape=(32, 64), lr=0.1, decay=0.01, steps=2500)
ADAM_RUN = Simulation(shape=(32, 64), lr=0.2, decay=0.05, steps=2500)
# matched AdamP has little decay and is slow; this equilibrium is not far from the start
MATCHED_RUN = Simulation(shape=(32, 64), lr=0.16, decay=0.0625, wd_ratio="matched", steps=2500)


class Equilibrium(NamedTuple):
    """An optimizer, the squared angle per step that it reaches, and a simulation that shows it.

    >>> EQUILIBRIA["AdamP"].squared_angle(Simulation(lr=0.5, decay=0.25, wd_ratio=0.5))
    0.125
    """

    build: Build
    squared_angle: Callable[[Simulation], float]
    simulation: Simulation


def _sgd(weight: Tensor, s: Simulation) -> Optimizer:
    return SGD([weight], s.lr, s.beta, weight_decay=s.decay)


def _sgd_squared(s: Simulation) -> float:
    return 2 * s.lr * s.decay / (1 + s.beta)


def _adamw_squared(s: Simulation) -> float:
    return 2 * s.lr * s.decay * maths.matched(s.beta)


def _adamp_squared(s: Simulation) -> float:
    return 2 * s.lr * s.decay * float(s.wd_ratio)


EQUILIBRIA = {
    "SGD, coupled decay": Equilibrium(_sgd, _sgd_squared, SGD_RUN),
    "SGDP": Equilibrium(sgdp, lambda s: _adamp_squared(s) / (1 - s.beta), SGD_RUN),
    "SGDP, matched": Equilibrium(sgdp, _sgd_squared, SGD_RUN._replace(wd_ratio="matched")),
    "AdamW": Equilibrium(adamw, _adamw_squared, ADAM_RUN),
    "AdamP": Equilibrium(adamp, _adamp_squared, ADAM_RUN),
    "AdamP, matched": Equilibrium(adamp, _adamw_squared, MATCHED_RUN),
}


def equilibrium(name: str, simulation: Simulation | None = None) -> Lemma:
    """The root mean square angle per step at equilibrium, in radians, to first order in lr decay.

    sqrt(2 lr decay x), where x is 1 / (1 + beta) for SGD with coupled decay, (1 - beta) /
    (1 + beta) for AdamW, r / (1 - beta) for SGDP and r for AdamP, where r is wd_ratio. With r =
    "matched" the projected optimizers turn as fast as SGD and AdamW do.

    Args:
        name: A key of EQUILIBRIA.
        simulation: By default that of EQUILIBRIA. The second half of its steps is measured; in
            the first half it reaches the equilibrium.

    Raises:
        ValueError: name is unknown.

    >>> f"{equilibrium('AdamP', Simulation(lr=0.2, decay=0.1, steps=500)).claimed:.4f}"
    '0.0632'
    """
    check_choice("name", name, EQUILIBRIA)
    build, squared_angle, default = EQUILIBRIA[name]
    simulation = simulation or default
    squares = [
        float(angle_rad(step.before, step.weight.detach()).square().mean())
        for number, step in enumerate(take_steps(build, simulation))
        if number >= simulation.steps // 2
    ]
    claimed, measured = math.sqrt(squared_angle(simulation)), math.sqrt(fmean(squares))
    error = abs(measured / claimed - 1)
    return Lemma(f"{name}: angle at equilibrium, rad", DERIVED, claimed, measured, error, False)
