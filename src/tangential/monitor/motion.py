"""How a step moves a weight: norms, angles, growth and the equilibrium, from inner products.

Legend
    w, g           weight before the step, and its gradient
    a, e           the step: w+ = a w + e; a = 1 - lr decay, so e is what the update adds
    ww ... ee      inner products per unit [units], float64
    beta           Adam's first or SGD's momentum
    rate           lr times decoupled decay: the share of w that decay removes in a step

Source: Heo et al., "AdamP", ICLR 2021, section 2, for norms and effective steps. The equilibrium
of decay and steps is derived; `tangential lemmas` measures it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tangential import maths

CLOSE = 0.1  # relative distance from the equilibrium angle that counts as equilibrium


class Moved(NamedTuple):
    """Inner products per unit [units], the factor a (`keep`), and the number of elements."""

    ww: Tensor
    gg: Tensor
    gw: Tensor
    we: Tensor
    ee: Tensor
    keep: Tensor
    unit_size: Tensor


# Columns of `added`: squares, so that they add up over the units and the shards of a weight.
ADDED = (
    *("ww", "gg", "gw", "ee", "update2", "growth_memory", "growth_decay", "radial2"),
    *("units", "angle2", "chord2", "with_grad", "cosine2", "not_orthogonal", "by_row", "by_weight"),
)


def added(moved: Moved, gate: maths.Gate | None = None) -> Tensor:
    """The quantities that add up over the units of a weight [units, ADDED].

    |w+|^2 - |w|^2 = |e|^2 + 2 a e.w + (a^2 - 1) |w|^2: growth by the step, by momentum's memory,
    and by decay. `update2` is |w+ - w|^2, `chord2` the square of the effective step
    |w+/|w+| - w/|w||; a unit of norm 0 has no direction and counts in neither. The published gate
    does not fire if units are `not_orthogonal`. `by_row`, `by_weight`: where `gate` fired.

    >>> w, g, e = torch.tensor([[3.0, 4.0], [4.0, -3.0], [-0.4, 0.3]], dtype=torch.float64)
    >>> sums = Moved(*((x * y).sum().view(1) for x, y in [(w, w), (g, g), (g, w), (w, e), (e, e)]),
    ...              keep=torch.ones(1), unit_size=torch.tensor([2.0]))
    >>> round(added(sums)[0, ADDED.index("angle2")].sqrt().tan().item(), 6)
    0.1
    """
    ww, gg, gw, we, ee, keep, unit_size = moved
    zeros, live = torch.zeros_like(ww), ww > 0
    norm = torch.where(live, ww, 1).sqrt()
    radial = torch.where(live, we / norm, zeros)
    across = (ee - radial.square()).clamp(min=0).sqrt()
    angle = torch.where(live, torch.atan2(across, keep * norm + radial), zeros)
    with_grad = live & (gg > 0)
    orthogonal = maths.orthogonal(torch, ww, gg, gw, maths.DELTA / unit_size.sqrt(), maths.EPS)
    columns = {
        "ww": ww,
        "gg": gg,
        "gw": gw,
        "ee": ee,
        "update2": (keep - 1) ** 2 * ww + 2 * (keep - 1) * we + ee,
        "growth_memory": 2 * keep * we,
        "growth_decay": (keep**2 - 1) * ww,
        "radial2": radial.square(),
        "units": live,
        "angle2": angle.square(),
        "chord2": 4 * (angle / 2).sin().square(),
        "with_grad": with_grad,
        "cosine2": torch.where(with_grad, unit_size * gw.square() / (ww * gg), zeros),
        "not_orthogonal": ~orthogonal,
        "by_row": gate.row if gate else zeros,
        "by_weight": gate.weight if gate else zeros,
    }
    return torch.stack([columns[name].to(ww.dtype) for name in ADDED], dim=1)


def equilibrium_rad(rate: float, beta: float, *, projected: bool) -> float:
    """The RMS angle per step at which decay and steps balance, to first order; NaN without decay.

    sqrt(2 rate); without projection sqrt(2 rate (1 - beta) / (1 + beta)).

    Args:
        rate: Share of the weight that decay removes in a step: lr times decoupled decay.
        beta: Decay rate of the momentum.
        projected: Whether the radial part of updates is removed.

    >>> round(equilibrium_rad(1e-3 * 1e-1, 0.9, projected=False), 6)  # AdamW
    0.003244
    """
    if not rate > 0:
        return math.nan
    return math.sqrt(2 * rate * (1 if projected else maths.matched(beta)))


def steps_to_equilibrium(ratio: float, rate: float, *, adaptive: bool) -> float:
    """Steps at this lr until the angle is within 10 % of its equilibrium value; NaN without decay.

    Adam's steps have a fixed length: the squared norm approaches equilibrium as exp(-2 rate t).
    SGD's gradients grow as the weight shrinks: the fourth power of the norm does, as
    exp(-4 rate t). The angle is inversely proportional to the norm, or to its square.

    Args:
        ratio: Angle now over the angle at equilibrium, > 0.
        rate: As in `equilibrium_rad`.
        adaptive: Whether steps are as in Adam.

    >>> steps_to_equilibrium(1.05, 1e-4, adaptive=True)
    0.0
    """
    if not (rate > 0 and ratio > 0):
        return math.nan
    inverse, per_step = 1 / ratio, (2 if adaptive else 4) * rate
    now = inverse * inverse  # ** would raise OverflowError instead of returning inf
    close = (1 - CLOSE) ** -2 - 1 if now > 1 else 1 - (1 + CLOSE) ** -2
    return max(0.0, math.log(abs(now - 1) / close) / per_step) if now != 1 else 0.0
