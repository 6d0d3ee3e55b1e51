"""How often the gate takes a random pair of weight and gradient for an orthogonal one."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from tangential import maths

DELTAS = (0.01, 0.03, 0.1, 0.3, 1.0)
ROW_COUNTS = (2, 4, 8)  # of the random weights
FAN = 32  # elements per row of the random weights
PAIRS, PAIRS_AT_ONCE = 100_000, 10_000


class ChanceRates(NamedTuple):
    """How often a test of the gate passes by chance, for random weights and gradients."""

    delta: float
    formula: float  # erf(delta / sqrt 2): the probability that one cosine is small enough
    layer_view: float  # simulated, for the single test of the whole weight
    row_view: dict[int, float]  # number of rows -> simulated, for all rows together


def chance_rates(
    deltas: Iterable[float] = DELTAS, pairs: int = PAIRS, seed: int = 0
) -> list[ChanceRates]:
    """Simulate how often the gate takes a scale-variant weight for a scale-invariant one.

    sqrt(n) cos(w, g) of a random pair of n elements is nearly standard normal. So one test passes
    with probability erf(delta / sqrt 2), and the tests of r rows with the r-th power of it.

    Args:
        deltas: Thresholds, >= 0.
        pairs: Number of random pairs; ValueError if it is less than 1.
        seed: Seed of the pairs.

    >>> [rates] = chance_rates([0.1], pairs=20_000)
    >>> f"{rates.formula:.4f}, {rates.layer_view:.2f}, {rates.row_view[8]:g}"
    '0.0797, 0.08, 0'
    """
    if pairs < 1:
        raise ValueError(f"pairs must be an integer >= 1, got {pairs}")
    moments = _random_moments(pairs, seed)
    return [
        ChanceRates(
            delta,
            math.erf(delta / math.sqrt(2)),
            _share_by_layer(moments, delta),
            {rows: _share_by_row(moments, rows, delta) for rows in ROW_COUNTS},
        )
        for delta in deltas
    ]


def _random_moments(pairs: int, seed: int) -> maths.Moments:
    """Inner products [pairs, rows] of random weights and gradients; the update is the gradient."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for first in range(0, pairs, PAIRS_AT_ONCE):
        shape = (2, min(PAIRS_AT_ONCE, pairs - first), max(ROW_COUNTS), FAN)
        w, g = torch.randn(shape, generator=generator, device="cpu")
        gw = (g * w).sum(-1)
        drawn.append((w.square().sum(-1), g.square().sum(-1), gw, gw))
    return maths.Moments(*map(torch.cat, zip(*drawn, strict=True)))


def _total(x: Tensor) -> Tensor:
    return x.sum(1, keepdim=True)


def _share_by_layer(moments: maths.Moments, delta: float) -> float:
    ww, gg, gw, _ = map(_total, moments)
    threshold = delta / (max(ROW_COUNTS) * FAN) ** 0.5
    passed = maths.orthogonal(torch, ww, gg, gw, threshold, maths.EPS)
    return float(passed.double().mean())


def _share_by_row(moments: maths.Moments, rows: int, delta: float) -> float:
    some = maths.Moments(*(x[:, :rows] for x in moments))
    sizes = {"unit_size": FAN, "size": rows * FAN}
    options = {"projection": "auto", "delta": delta, "eps": maths.EPS}
    by_row = maths.gate(torch, some, _total, **sizes, **options).row
    return float(by_row.all(1).double().mean())
