"""The paper's lemmas on the norm of a weight, measured on real steps; the list of all claims."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import SGD

from tangential_lab.theory.claims import (
    DEFAULT,
    PAPER,
    Lemma,
    Simulation,
    random_weight,
    square,
    take_steps,
    tangent,
    worst_case,
)
from tangential_lab.theory.equilibria import EQUILIBRIA, equilibrium
from tangential_lab.theory.steps import (
    BUILDERS,
    PLAIN,
    effective_step,
    estimated_effective_step,
    great_circle,
    projected_angle,
    projected_norm,
)

NEGLIGIBLE = 1e-18  # a term of this size changes no sum in float64


def all_lemmas() -> Iterator[Lemma]:
    """All claims in their default simulations; the equilibria come last and take a second each.

    >>> next(all_lemmas()).name
    'Lemma 2.1: squared norm after a step of SGD'
    """
    yield plain_norm()
    yield momentum_norm()
    yield momentum_growth()
    for check in (projected_norm, projected_angle, great_circle):
        yield from map(check, PLAIN)
    for check in (effective_step, estimated_effective_step):
        yield from map(check, BUILDERS)
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
    for t, step in enumerate(take_steps(lambda weight, s: SGD([weight], s.lr, s.beta), simulation)):
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
