"""Claims about single steps, measured on steps of real optimizers: how far weights grow and turn.

The optimizers run with eps = 0: with the published 1e-8, (|w| + eps)^2 leaves a share of
2 eps / |w| of the radial part in the step. A `rule` is "SGDP" or "AdamP".
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import SGD

from tangential import maths
from tangential_lab.theory.claims import (
    BETA2,
    DEFAULT,
    DERIVED,
    PAPER,
    Build,
    Lemma,
    Simulation,
    Step,
    adamp,
    adamw,
    angle_rad,
    check_choice,
    random_weight,
    sgdp,
    square,
    take_steps,
    tangent,
    worst_case,
)

Rule = Literal["SGDP", "AdamP"]
Name = Literal["SGD", "AdamW", "SGDP", "AdamP"]

BUILDERS: dict[Name, Build] = {
    "SGD": lambda weight, s: SGD([weight], s.lr, s.beta),  # decay would be part of its momentum
    "AdamW": adamw,
    "SGDP": sgdp,
    "AdamP": adamp,
}
PLAIN: dict[Rule, Name] = {"SGDP": "SGD", "AdamP": "AdamW"}  # the same without projection


class UnitStep(NamedTuple):
    """A step, w_new = (1 - lr decay) w - lr p, of units [units, fan] that are scale-invariant."""

    before: Tensor  # w [units, fan]
    after: Tensor  # w_new [units, fan]
    update: Tensor  # lr p [units, fan]; p is orthogonal to w if it is projected
    tangential: Tensor  # lr q [units, fan]; q is p without its part along w
    radial: Tensor  # component of w_new along w [units]: (1 - lr decay) |w| - lr p.w / |w|

    @property
    def angle_rad(self) -> Tensor:
        """The angle [units] by which the update and the decay turn w, from 0 to pi."""
        return self.tangential.norm(dim=1).atan2(self.radial)

    @property
    def effective(self) -> Tensor:
        """The effective step [units]: the distance between the directions of w and w_new."""
        return (normalize(self.after, dim=1) - normalize(self.before, dim=1)).norm(dim=1)


def projected_norm(rule: Rule, simulation: Simulation = DEFAULT) -> Lemma:
    """A projected, decayed step turns |w|^2 into (1 - lr decay')^2 |w|^2 + lr^2 |q|^2.

    q is the update without its radial part, decay' the part of the decay that acts on
    projected weights.

    >>> projected_norm("SGDP").holds
    True
    """
    cases = [
        (step.radial**2 + square(step.tangential), square(step.after))
        for step in _projected_steps(rule, simulation)
    ]
    return worst_case(f"{rule}: squared norm after a projected, decayed step", DERIVED, cases)


def projected_angle(rule: Rule, simulation: Simulation = DEFAULT) -> Lemma:
    """A projected, decayed step turns w by atan(lr |q| / ((1 - lr decay') |w|)), in radians.

    >>> projected_angle("AdamP").holds
    True
    """
    cases = [
        (step.angle_rad, angle_rad(step.before, step.after))
        for step in _projected_steps(rule, simulation)
    ]
    return worst_case(f"{rule}: angle of a projected, decayed step, rad", DERIVED, cases)


def great_circle(rule: Rule, simulation: Simulation = DEFAULT) -> Lemma:
    """A projected step keeps the direction of w on the great circle of the plain step.

    So the projection changes how far w turns, but not in which direction. The error is the distance
    on the unit sphere from the projected weight to the half circle from w through the plain weight.
    SGDP is compared with torch's SGD, AdamP with torch's AdamW.

    >>> great_circle("SGDP").holds
    True
    """
    check_choice("rule", rule, PLAIN)
    plain_weight, _ = random_weight(simulation)
    plain = BUILDERS[PLAIN[rule]](plain_weight, simulation)
    cases = []
    for before, weight, grad, _ in take_steps(BUILDERS[rule], simulation):
        plain_weight.data, plain_weight.grad = before.clone(), grad.clone()
        plain.step()  # its moments have seen the same gradients
        start, end, plain_end = (_units(w, simulation) for w in (before, weight, plain_weight))
        turn = tangent(normalize(end, dim=1), of=start)
        direction = normalize(tangent(plain_end, of=start), dim=1)
        distance = (turn - turn.norm(dim=1, keepdim=True) * direction).norm(dim=1)
        cases.append((torch.zeros_like(distance), distance))
    return worst_case(f"{rule}: distance from the plain step's great circle", DERIVED, cases)


def effective_step(optimizer: Name, simulation: Simulation = DEFAULT) -> Lemma:
    """The effective step |w_new/|w_new| - w/|w|| is exactly 2 sin(angle / 2), for any step.

    tan(angle) = lr |q| / ((1 - lr decay) |w| - lr p.w / |w|), where p is the update and q is p
    without its part along w. In a projected step p = q, and the last term is 0.

    >>> effective_step("AdamW").holds
    True
    """
    cases = [
        (2 * torch.sin(step.angle_rad / 2), step.effective)
        for step in _unit_steps(optimizer, simulation)
    ]
    return worst_case(f"{optimizer}: effective step = 2 sin(angle/2)", DERIVED, cases)


def estimated_effective_step(optimizer: Name, simulation: Simulation = DEFAULT) -> Lemma:
    """The effective step is about lr |p| / |w_new|; every step may have its own error.

    By the law of sines, sin(angle) = (lr |p| / |w_new|) (|q| / |p|). So the estimate is exactly
    (|p| / |q|) cos(angle / 2) times the effective step: at most 1 - |q| / |p| too large, because
    p has a part along w, and at most 1 / cos(angle / 2) - 1, about angle^2 / 8, too small. Both
    are relative to the estimate. In a projected step |q| = |p|, and the error is the second bound.

    Source: Heo et al., ICLR 2021; the bound is derived.

    >>> lemma = estimated_effective_step("SGDP")
    >>> lemma.holds, abs(lemma.error - lemma.bound) < 1e-12
    (True, True)
    """
    cases, bounds = [], []
    for step in _unit_steps(optimizer, simulation):
        length, tangential = step.update.norm(dim=1), step.tangential.norm(dim=1)
        cases.append((length / step.after.norm(dim=1), step.effective))
        too_small = 1 / torch.cos(step.angle_rad / 2) - 1
        bounds.append(torch.maximum(1 - tangential / length, too_small))
    name = f"{optimizer}: effective step, about lr |p| / |w_new|"
    return worst_case(name, PAPER, cases, bounds)


def _projected_steps(rule: Rule, simulation: Simulation) -> Iterator[UnitStep]:
    check_choice("rule", rule, PLAIN)
    return _unit_steps(rule, simulation)


def _unit_steps(optimizer: Name, simulation: Simulation) -> Iterator[UnitStep]:
    check_choice("optimizer", optimizer, BUILDERS)
    lr, shrinkage = simulation.lr, 1 - simulation.lr * _decay(optimizer, simulation)
    for step in take_steps(BUILDERS[optimizer], simulation):
        units, after = _units(step.before, simulation), _units(step.weight, simulation).clone()
        update = lr * _units(_update(step, simulation.beta), simulation)
        tangential = tangent(update, of=units)
        if optimizer in PLAIN:
            update = tangential
        along = (update * normalize(units, dim=1)).sum(1)
        radial = shrinkage * units.norm(dim=1) - along
        yield UnitStep(units, after, update, tangential, radial)


def _decay(optimizer: Name, simulation: Simulation) -> float:
    """The weight decay that acts on the units, per lr."""
    beta, ratio = simulation.beta, simulation.wd_ratio
    decay = simulation.decay * (maths.matched(beta) if isinstance(ratio, str) else ratio)
    decays = {"SGD": 0.0, "AdamW": simulation.decay, "SGDP": decay / (1 - beta), "AdamP": decay}
    return decays[optimizer]


def _update(step: Step, beta: float) -> Tensor:
    """The update of a step before its projection, from the optimizer's state."""
    state = step.optimizer.state[step.weight]
    if "exp_avg" not in state:
        return state.get("momentum_buffer", step.grad)
    moments, count = (state["exp_avg"], state["exp_avg_sq"]), float(state["step"])
    options = {"betas": (beta, BETA2), "eps": 0, "nesterov": False}
    corrections = maths.bias_corrections(count, options["betas"])
    return maths.adam_update(torch, step.grad, *moments, corrections, **options)


def _units(rows: Tensor, simulation: Simulation) -> Tensor:
    """The units [units, fan], each projected as one vector: the rows, or the whole weight."""
    rows = rows.detach()
    return rows.reshape(1, -1) if simulation.projection == "weight" else rows
