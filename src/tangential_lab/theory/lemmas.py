"""The paper's claims, and claims derived from them, measured on steps of real optimizers.

The optimizers run with eps = 0: with the published 1e-8, (|w| + eps)^2 leaves a share of
2 eps / |w| of the radial part in the step. A `rule` is "SGDP" or "AdamP".
"""

import math
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
from tangential_lab.theory.equilibria import EQUILIBRIA, equilibrium

NEGLIGIBLE = 1e-18  # a term of this size changes no sum in float64

Rule = Literal["SGDP", "AdamP"]

PROJECTED: dict[Rule, Build] = {"SGDP": sgdp, "AdamP": adamp}
PLAIN: dict[Rule, Build] = {
    "SGDP": lambda weight, s: SGD([weight], s.lr, s.beta),  # decay would be part of its momentum
    "AdamP": adamw,
}


class ProjectedStep(NamedTuple):
    """A step of a projected optimizer: its units before and after, and what moved them."""

    before: Tensor  # [units, fan]
    after: Tensor  # [units, fan]
    radial: Tensor  # [units]: norms before the step, shortened by the weight decay
    tangential: Tensor  # lr q [units, fan]: lr times the update without its radial part


def all_lemmas() -> Iterator[Lemma]:
    """All claims in their default simulations; the equilibria come last and take a second each.

    >>> next(all_lemmas()).name
    'Lemma 2.1: squared norm after a step of SGD'
    """
    yield plain_norm()
    yield momentum_norm()
    yield momentum_growth()
    for check in (projected_norm, projected_angle, great_circle):
        yield from map(check, PROJECTED)
    yield from map(equilibrium, EQUILIBRIA)


def plain_norm(simulation: Simulation = DEFAULT) -> Lemma:
    """Lemma 2.1: gradient descent turns |w|^2 into |w|^2 + lr^2 |g|^2.

    >>> plain_norm().holds
    True
    """
    cases = [
        (square(step.before) + simulation.lr**2 * square(step.grad), square(step.weight))
        for step in take_steps(lambda weight, s: SGD([weight], s.lr), simulation)
    ]
    return worst_case("Lemma 2.1: squared norm after a step of SGD", PAPER, cases)


def momentum_norm(simulation: Simulation = DEFAULT) -> Lemma:
    """Lemma 2.2: with momentum, p <- beta p + g, past steps lengthen w too.

    |w|^2 becomes |w|^2 + lr^2 |p_t|^2 + 2 lr^2 (sum over k < t of beta^(t - k) |p_k|^2).

    >>> momentum_norm(Simulation(beta=0.99)).holds
    True
    """
    cases, squares = [], []
    for t, step in enumerate(take_steps(PLAIN["SGDP"], simulation)):
        squares.append(square(step.optimizer.state[step.weight].get("momentum_buffer", step.grad)))
        shares = [1.0] + [2 * simulation.beta**age for age in range(1, t + 1)]
        sums = sum(share * p for share, p in zip(shares, reversed(squares), strict=True))
        cases.append((square(step.before) + simulation.lr**2 * sums, square(step.weight)))
    return worst_case("Lemma 2.2: squared norm after a step with momentum", PAPER, cases)


def momentum_growth(simulation: Simulation = DEFAULT) -> Lemma:
    """Corollary 2.3: |w|^2 grows 1 + 2 beta / (1 - beta) times as fast with momentum as without.

    This holds for many steps of equal length. So the gradients are chosen such that all steps have
    the same length, and growth is compared once beta^t is smaller than the rounding error.

    Args:
        simulation: Only its shape, lr, beta and seed are used.

    >>> f"{momentum_growth().claimed:.0f}"
    '19'
    """
    beta = simulation.beta
    first = math.ceil(math.log(NEGLIGIBLE) / math.log(beta)) if beta else 1
    window = first // 4 + 10  # long enough that growth exceeds the rounding of |w|^2
    with_, without = (_growth(simulation, momentum, first, window) for momentum in (beta, 0.0))
    claimed = torch.full_like(with_, 1 + 2 * beta / (1 - beta))
    name = "Corollary 2.3: growth with momentum to growth without"
    return worst_case(name, PAPER, [(claimed, with_ / without)])


def _growth(simulation: Simulation, momentum: float, first: int, window: int) -> Tensor:
    """How much |w|^2 [rows] grows in the `window` steps after the `first`."""
    weight, draw = random_weight(simulation)
    optimizer = SGD([weight], simulation.lr, momentum)
    # so short that the radial part of a step, lr |p|^2 beta / ((1 - beta) |w|), is below half of it
    length = weight.detach().norm(dim=1, keepdim=True) * (1 - simulation.beta) / (2 * simulation.lr)
    start = square(weight)
    for t in range(first + window):
        if t == first:
            start = square(weight)
        buffer = optimizer.state[weight].get("momentum_buffer", torch.zeros_like(weight))
        weight.grad = _gradient(momentum * buffer, weight.detach(), length, draw())
        optimizer.step()
    return square(weight) - start


def _gradient(past: Tensor, weight: Tensor, length: Tensor, noise: Tensor) -> Tensor:
    """The gradient orthogonal to the weight that, added to `past`, makes a step of `length`."""
    radial = past - tangent(past, of=weight)
    around = normalize(tangent(noise, of=weight), dim=1)
    return radial + (length**2 - square(radial)[:, None]).sqrt() * around - past


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
        (step.tangential.norm(dim=1).atan2(step.radial), angle_rad(step.before, step.after))
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
    check_choice("rule", rule, PROJECTED)
    plain_weight, _ = random_weight(simulation)
    plain = PLAIN[rule](plain_weight, simulation)
    cases = []
    for before, weight, grad, _ in take_steps(PROJECTED[rule], simulation):
        plain_weight.data, plain_weight.grad = before.clone(), grad.clone()
        plain.step()  # its moments have seen the same gradients
        start, end, plain_end = (_units(w, simulation) for w in (before, weight, plain_weight))
        turn = tangent(normalize(end, dim=1), of=start)
        direction = normalize(tangent(plain_end, of=start), dim=1)
        distance = (turn - turn.norm(dim=1, keepdim=True) * direction).norm(dim=1)
        cases.append((torch.zeros_like(distance), distance))
    return worst_case(f"{rule}: distance from the plain step's great circle", DERIVED, cases)


def _projected_steps(rule: Rule, simulation: Simulation) -> Iterator[ProjectedStep]:
    check_choice("rule", rule, PROJECTED)
    lr, beta, ratio = simulation.lr, simulation.beta, simulation.wd_ratio
    decay = simulation.decay * (maths.matched(beta) if isinstance(ratio, str) else ratio)
    shrinkage = 1 - lr * (decay / (1 - beta) if rule == "SGDP" else decay)
    for step in take_steps(PROJECTED[rule], simulation):
        units, after = _units(step.before, simulation), _units(step.weight, simulation).clone()
        update = _units(_update(step, beta), simulation)
        radial = shrinkage * units.norm(dim=1)
        yield ProjectedStep(units, after, radial, lr * tangent(update, of=units))


def _update(step: Step, beta: float) -> Tensor:
    """The update of a step before its projection, from the optimizer's state."""
    state = step.optimizer.state[step.weight]
    if "momentum_buffer" in state:
        return state["momentum_buffer"]
    moments, count = (state["exp_avg"], state["exp_avg_sq"]), float(state["step"])
    options = {"betas": (beta, BETA2), "eps": 0, "nesterov": False}
    return maths.adam_update(torch, step.grad, *moments, count, **options)


def _units(rows: Tensor, simulation: Simulation) -> Tensor:
    """The units [units, fan], each projected as one vector: the rows, or the whole weight."""
    rows = rows.detach()
    return rows.reshape(1, -1) if simulation.projection == "weight" else rows
