"""What the paper claims, and what follows from it, measured on steps of real optimizers.

Where the projection is concerned eps is 0: with the published 1e-8, (|w| + eps)^2 leaves a share
of 2 eps / |w| of the radial part in the step.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import SGD, AdamW, Optimizer

from tangential.optim import SGDP, AdamP
from tangential_lab.theory.claims import (
    DERIVED,
    PAPER,
    USUAL,
    Lemma,
    Setting,
    angle_rad,
    drawn,
    known,
    square,
    stepped,
    tangent,
    worst,
)
from tangential_lab.theory.equilibria import EQUILIBRIA, equilibrium

FORGOTTEN = 1e-18  # a weight that no sum in float64 feels

Build = Callable[[Tensor, Setting], Optimizer]
Rule = Literal["SGDP", "AdamP"]

PROJECTED: dict[Rule, Build] = {
    "SGDP": lambda weight, s: SGDP(
        [weight],
        s.lr,
        s.beta,
        weight_decay=s.decay,
        eps=0,
        wd_ratio=s.wd_ratio,
        projection=s.projection,
    ),
    "AdamP": lambda weight, s: AdamP(
        [weight],
        s.lr,
        (s.beta, 0.999),
        weight_decay=s.decay,
        eps=0,
        wd_ratio=s.wd_ratio,
        projection=s.projection,
    ),
}
PLAIN: dict[Rule, Build] = {  # SGD's decay is part of its momentum, and would bend its path
    "SGDP": lambda weight, s: SGD([weight], s.lr, s.beta),
    "AdamP": lambda weight, s: AdamW([weight], s.lr, (s.beta, 0.999), eps=0, weight_decay=s.decay),
}


def lemmas() -> Iterator[Lemma]:
    """All claims at their usual settings; the equilibria, which come last, take a second each.

    >>> next(lemmas()).name
    'Lemma 2.1: squared norm after a step of SGD'
    """
    yield plain_norm()
    yield momentum_norm()
    yield momentum_growth()
    for check in (projected_norm, projected_angle, great_circle):
        yield from map(check, PROJECTED)
    yield from map(equilibrium, EQUILIBRIA)


def plain_norm(setting: Setting = USUAL) -> Lemma:
    """Lemma 2.1: gradient descent turns |w|^2 into |w|^2 + lr^2 |g|^2.

    >>> plain_norm().holds
    True
    """
    weight, draw = drawn(setting)
    cases = []
    for before in stepped(SGD([weight], setting.lr), weight, draw, setting.steps):
        claimed = square(before) + setting.lr**2 * square(_grad(weight))
        cases.append((claimed, square(weight)))
    return worst("Lemma 2.1: squared norm after a step of SGD", PAPER, cases)


def momentum_norm(setting: Setting = USUAL) -> Lemma:
    """Lemma 2.2: with p <- beta p + g, past steps lengthen w too.

    |w|^2 becomes |w|^2 + lr^2 |p_t|^2 + 2 lr^2 (sum over k < t of beta^(t - k) |p_k|^2).

    >>> momentum_norm(Setting(beta=0.99)).holds
    True
    """
    weight, draw = drawn(setting)
    optimizer = SGD([weight], setting.lr, setting.beta)
    cases, squares = [], []
    for t, before in enumerate(stepped(optimizer, weight, draw, setting.steps)):
        squares.append(square(optimizer.state[weight].get("momentum_buffer", weight.grad)))
        shares = [1.0] + [2 * setting.beta**age for age in range(1, t + 1)]
        sums = sum(share * p for share, p in zip(shares, reversed(squares), strict=True))
        cases.append((square(before) + setting.lr**2 * sums, square(weight)))
    return worst("Lemma 2.2: squared norm after a step with momentum", PAPER, cases)


def momentum_growth(setting: Setting = USUAL) -> Lemma:
    """Corollary 2.3: |w|^2 grows 1 + 2 beta / (1 - beta) times as fast with momentum as without.

    That is so where all steps have one length, in the limit of many. So gradients are chosen that
    give every step this length, and growth is compared when beta^t is lost in rounding.

    Args:
        setting: Its shape, lr, beta and seed count.

    >>> f"{momentum_growth().claimed:.0f}"
    '19'
    """
    beta = setting.beta
    first = math.ceil(math.log(FORGOTTEN) / math.log(beta)) if beta else 1
    window = first // 4 + 10  # in which growth stands out of the rounding of |w|^2
    with_, without = (_growth(setting, momentum, first, window) for momentum in (beta, 0.0))
    claimed = torch.full_like(with_, 1 + 2 * beta / (1 - beta))
    name = "Corollary 2.3: growth with momentum to growth without"
    return worst(name, PAPER, [(claimed, with_ / without)])


def _growth(setting: Setting, momentum: float, first: int, window: int) -> Tensor:
    """How much |w|^2 [rows] grows in the `window` steps after the `first`."""
    weight, draw = drawn(setting)
    optimizer = SGD([weight], setting.lr, momentum)
    # with it the radial part of a step, lr |p|^2 beta / ((1 - beta) |w|), is below its half
    length = weight.detach().norm(dim=1, keepdim=True) * (1 - setting.beta) / (2 * setting.lr)
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


def projected_norm(rule: Rule, setting: Setting = USUAL) -> Lemma:
    """A projected, decayed step turns |w|^2 into (1 - lr decay')^2 |w|^2 + lr^2 |q|^2.

    q is the update without its radial part, decay' what the projection leaves of the decay.

    Args:
        rule: "SGDP" or "AdamP".
        setting: What it is measured on.

    >>> projected_norm("SGDP").holds
    True
    """
    cases = [
        ((kept * before.norm(dim=1)) ** 2 + square(turn), square(after))
        for before, after, kept, turn in _projected(rule, setting)
    ]
    return worst(f"{rule}: squared norm after a projected, decayed step", DERIVED, cases)


def projected_angle(rule: Rule, setting: Setting = USUAL) -> Lemma:
    """A projected, decayed step turns w by atan(lr |q| / ((1 - lr decay') |w|)), in radians.

    Args:
        rule: "SGDP" or "AdamP".
        setting: What it is measured on.

    >>> projected_angle("AdamP").holds
    True
    """
    cases = [
        (torch.atan2(turn.norm(dim=1), kept * before.norm(dim=1)), angle_rad(before, after))
        for before, after, kept, turn in _projected(rule, setting)
    ]
    return worst(f"{rule}: angle of a projected, decayed step, rad", DERIVED, cases)


def great_circle(rule: Rule, setting: Setting = USUAL) -> Lemma:
    """A projected step leaves w's direction on the great circle on which the plain step goes.

    So the projection changes how far w turns, not whither. Measured is how far, on the unit
    sphere, the projected direction is from the half circle from w through the unprojected one.

    Args:
        rule: "SGDP", next to torch's SGD, or "AdamP", next to torch's AdamW.
        setting: What it is measured on.

    >>> great_circle("SGDP").holds
    True
    """
    known("rule", rule, PROJECTED)
    weight, draw = drawn(setting)
    twin = weight.detach().clone().requires_grad_()
    optimizer, plain = PROJECTED[rule](weight, setting), PLAIN[rule](twin, setting)
    cases = []
    for before in stepped(optimizer, weight, draw, setting.steps):
        twin.data, twin.grad = before.clone(), _grad(weight).clone()
        plain.step()  # its moments have seen the same gradients
        start, here, there = (_units(rows, setting) for rows in (before, weight, twin))
        reached = tangent(normalize(here, dim=1), of=start)
        whither = normalize(tangent(there, of=start), dim=1)
        distance = (reached - reached.norm(dim=1, keepdim=True) * whither).norm(dim=1)
        cases.append((torch.zeros_like(distance), distance))
    return worst(f"{rule}: distance from the plain step's great circle", DERIVED, cases)


def _projected(rule: Rule, setting: Setting) -> Iterator[tuple[Tensor, Tensor, float, Tensor]]:
    """Every step: units before and after [units, fan], what decay kept, and lr q [units, fan]."""
    known("rule", rule, PROJECTED)
    weight, draw = drawn(setting)
    optimizer = PROJECTED[rule](weight, setting)
    beta, ratio = setting.beta, setting.wd_ratio
    decay = setting.decay * ((1 - beta) / (1 + beta) if isinstance(ratio, str) else ratio)
    kept = 1 - setting.lr * (decay / (1 - beta) if rule == "SGDP" else decay)
    for before in stepped(optimizer, weight, draw, setting.steps):
        units = _units(before, setting)
        update = _units(_update(optimizer.state[weight], beta), setting)
        yield units, _units(weight, setting).clone(), kept, setting.lr * tangent(update, of=units)


def _update(state: dict[str, Tensor], beta: float) -> Tensor:
    """The update of the last step before its projection, from what the optimizer remembers."""
    if "momentum_buffer" in state:
        return state["momentum_buffer"]
    step = float(state["step"])
    root = state["exp_avg_sq"].sqrt() / math.sqrt(1 - 0.999**step)
    return state["exp_avg"] / (1 - beta**step) / root


def _units(rows: Tensor, setting: Setting) -> Tensor:
    """What is projected as one vector each [units, fan]: the rows, or their whole."""
    return rows.detach().reshape(1, -1) if setting.projection == "weight" else rows.detach()


def _grad(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
