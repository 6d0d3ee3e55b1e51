"""The mathematics, written once for every array library: rules, gate, projection coefficient.

`xp` is the array module: `torch`, `numpy`, `jax.numpy`. Every function is pure, and none reads an
array's value into Python, so all of them can be traced.

Legend
    w, g      weight and gradient               m, v, p   Adam's two moments, SGD's momentum
    u         update, before the learning rate  unit      rows that form one scale-invariant vector
    ww, gg, gw, uw   inner products per unit, [units]
    unit_size, size  elements in a unit, in the whole weight
    total(x)         [units] -> the sum over all units of the same weight, broadcastable to [units]

Source: Heo et al., "AdamP", ICLR 2021, section 2.3 and algorithms 1 and 2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any
Total = Callable[[Array], Array]

DELTA, EPS = 0.1, 1e-8  # defaults of the published gate

LEAST_KEPT = 1e-3  # caution never enlarges a step more than a thousandfold (Liang et al. 2024)


class Moments(NamedTuple):
    """Four inner products per unit, each [units], of weight w, gradient g and update u."""

    ww: Array
    gg: Array
    gw: Array
    uw: Array


class Gate(NamedTuple):
    """Two decisions per unit, each bool [units]: project the unit, or project the whole weight."""

    row: Array
    weight: Array


def adam(xp, g, m, v, corrections, *, betas, eps, nesterov):
    """Adam's new moments and update (m, v, u); `corrections` are those of `bias_corrections`.

    u = (m / (1 - b1^t)) / (sqrt(v) / sqrt(1 - b2^t) + eps); Nesterov has b1 m + (1 - b1) g for m.
    """
    b1, b2 = betas
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    return m, v, adam_update(xp, g, m, v, corrections, betas=betas, eps=eps, nesterov=nesterov)


def adam_update(xp, g, m, v, corrections, *, betas, eps, nesterov):
    """Adam's update u, from moments that already include the gradient g."""
    b1, _ = betas
    first, second = corrections
    ahead = b1 * m + (1 - b1) * g if nesterov else m
    return ahead / first / (xp.sqrt(v) / second + eps)


def bias_corrections(step, betas):
    """The divisors of Adam's m and sqrt(v) after t = `step` steps: 1 - b1^t, sqrt(1 - b2^t)."""
    b1, b2 = betas
    return 1 - b1**step, (1 - b2**step) ** 0.5


def sgd(g, p, *, momentum, dampening, nesterov):
    """SGD's new momentum and update (p, u): p <- momentum p + (1 - dampening) g, from p = 0."""
    is_zero = isinstance(momentum, (int, float)) and momentum == 0  # it may be a traced array
    past = 0 if is_zero else momentum * p  # 0 * inf would stay NaN
    p = past + (1 - dampening) * g
    return p, sgd_update(g, p, momentum=momentum, nesterov=nesterov)


def sgd_update(g, p, *, momentum, nesterov):
    """SGD's update u, from a momentum p that already includes the gradient g."""
    return g + momentum * p if nesterov else p


def failing(xp, moments: Moments, *, unit_size, delta, eps):
    """1 for units whose cosine is too large for the published gate by row, else 0 [units]."""
    ww, gg, gw, _ = moments
    fits = orthogonal(xp, ww, gg, gw, delta / unit_size**0.5, eps)
    return xp.where(fits, xp.zeros_like(ww), xp.ones_like(ww))


def gate(
    xp, moments: Moments, total: Total, *, unit_size, size, projection, delta, eps, failed=None
) -> Gate:
    """Decide per unit whether the update loses its radial part.

    "auto" is the published gate: by row if |cos(w, g)| < delta/sqrt(unit_size) in every unit, else
    by weight if |cos(w, g)| < delta/sqrt(size) of the whole weight. "row" and "weight" always
    project. The gate does not fire where a cosine is NaN or its norms overflow, and for a vector
    of one element, which has no tangent space. `failed`: the result of `failing`, if known.
    """
    ww, gg, gw, _ = moments
    ones, zeros = xp.ones_like(ww), xp.zeros_like(ww)
    yes, no = ones > 0, zeros > 0
    if projection == "row":
        return Gate(yes & (unit_size > 1), no)
    if projection == "weight":
        return Gate(no, yes & (size > 1))
    if failed is None:
        failed = failing(xp, moments, unit_size=unit_size, delta=delta, eps=eps)
    row = yes & (total(failed) == 0) & (unit_size > 1)
    whole = orthogonal(xp, total(ww), total(gg), total(gw), delta / size**0.5, eps)
    return Gate(row, whole & ~row & (size > 1))


def orthogonal(xp, ww, gg, gw, threshold, eps):
    """Whether |cos(w, g)| < threshold, with norms of at least eps; False if NaN or overflow."""
    norms = xp.clip(xp.sqrt(ww), min=eps) * xp.clip(xp.sqrt(gg), min=eps)
    return (abs(gw) / norms < threshold) & xp.isfinite(norms)


class Votes(NamedTuple):
    """What the gate has decided so far, each a count [units]: steps, by row, by weight."""

    steps: Array
    row: Array
    weight: Array


def latched(xp, gate: Gate, votes: Votes, *, steps: int, wait: bool) -> tuple[Gate, Votes]:
    """The gate, but after `steps` steps always what it has decided at more than half of them.

    `votes` start at 0. With `wait`, no unit is projected during these steps.
    """
    ones, zeros = xp.ones_like(votes.steps), xp.zeros_like(votes.steps)
    early = votes.steps < steps
    votes = Votes(
        votes.steps + xp.where(early, ones, zeros),
        votes.row + xp.where(early & gate.row, ones, zeros),
        votes.weight + xp.where(early & gate.weight, ones, zeros),
    )
    if wait:
        gate = Gate(early & ~early, early & ~early)
    row = xp.where(early, gate.row, 2 * votes.row > steps)
    return Gate(row, xp.where(early, gate.weight, 2 * votes.weight > steps)), votes


def coef(xp, gate: Gate, ww, xw, total: Total, *, eps):
    """Coefficient c [units] that makes x - c w orthogonal to w; 0 where the gate does not fire.

    c = (x.w) / (|w| + eps)^2, of the unit or of the whole weight. A c that is not finite (x or w
    overflowed) becomes 0: one bad element must not spread over its row.
    """
    by_row = xw / (xp.sqrt(ww) + eps) ** 2
    by_weight = total(xw) / (xp.sqrt(total(ww)) + eps) ** 2
    zeros = xp.zeros_like(ww)
    c = xp.where(gate.row, by_row, xp.where(gate.weight, by_weight, zeros))
    return xp.where(xp.isfinite(c), c, zeros)


def damp(xp, gate: Gate, ww, *, wd_ratio):
    """The share of the weight decay to apply [units]: `wd_ratio` where the gate fired, else 1."""
    ones = xp.ones_like(ww)
    return xp.where(gate.row | gate.weight, wd_ratio * ones, ones)


def agreement(xp, u, g):
    """Return u with 0 where its sign disagrees with g; and 1 for each element kept, else 0.

    A cautious step is the former over the `shrinkage` by the mean of the latter (Liang et al.,
    "Cautious Optimizers", 2024). NaN is kept, so that it stays visible.
    """
    ones, zeros = xp.ones_like(u), xp.zeros_like(u)
    against = u * g <= 0
    return xp.where(against, zeros, u), xp.where(against, zeros, ones)


def shrinkage(xp, share):
    """The divisor of a cautious step, from the share of elements that is kept."""
    return xp.clip(share, min=LEAST_KEPT)


def matched(beta: Any) -> Any:
    """The wd_ratio with which a projected and a plain optimizer rotate equally fast at equilibrium.

    (1 - beta) / (1 + beta), where beta is Adam's beta1 or SGD's momentum: 1/19 at 0.9.
    """
    return (1 - beta) / (1 + beta)
