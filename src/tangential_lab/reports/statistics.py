"""What numbers of few seeds allow one to say. scipy takes a second to import: only where used."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

LEVEL = 0.95
ALPHA = 1 - LEVEL
TAIL = ALPHA / 2
MIN_SEEDS = 8  # with fewer, nothing is called ahead or behind
RESAMPLES = 9_999
EXACT_PAIRS = 13  # 2^13 swaps are fewer than the resamples
MOST = math.log(sys.float_info.max)  # beyond it math.exp raises


class Interval(NamedTuple):
    """A mean with its 95 % interval; that of one value has no ends."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether the interval has ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    def covers(self, value: float) -> bool:
        """Whether `value` cannot be ruled out."""
        return not (value < self.low or value > self.high)

    def mapped(self, function: Callable[[float], float]) -> "Interval":
        """Mean and ends after a function that keeps their order."""
        mean, low, high = map(function, self[:3])
        return Interval(mean, low, high, self.n)


def interval(values: Iterable[float], *, share: bool = False) -> Interval:
    """Mean and 95 % interval by Student's t, of the values that are finite.

    Args:
        values: One per seed.
        share: They are parts of 1. The interval then ends at 0 and 1: no true mean lies beyond,
            so what is cut off cannot have covered it, and the level stays.

    >>> [round(x, 3) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 3]
    """
    known = [x for x in values if math.isfinite(x)]
    n = len(known)
    mean = math.fsum(known) / n if n else math.nan
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    from scipy import stats

    furthest = max(abs(x - mean) for x in known) or 1.0  # a square of it may be infinite
    squares = math.fsum(((x - mean) / furthest) ** 2 for x in known)
    error = furthest * math.sqrt(squares / (n - 1) / n)
    half = float(stats.t.ppf(1 - TAIL, n - 1)) * error
    low, high = mean - half, mean + half
    if share and all(0 <= x <= 1 for x in known):
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(mean, low, high, n)


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over pairs, with a 95 % bootstrap interval that keeps its level at few seeds.

    Percentiles of the resampled mean are too narrow at small n: by sqrt(n / (n - 1)) for the
    spread, and by t / z for knowing the spread from n values alone. Hesterberg ("What Teachers
    Should Know About the Bootstrap", 2015) moves the percentiles out, but at five pairs they then
    end at the outermost values, which cover 92.7 % of the time, and 76 % at three. The sample is
    stretched about its mean by these two factors instead: measured coverage is 94 % from two on.

    Args:
        a: One value a seed.
        b: Of the same seeds, in the same order.

    >>> difference([3.0, 4.0], [1.0, 2.0])[:3]
    (2.0, 2.0, 2.0)
    """
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    n = len(gaps)
    mean = math.fsum(gaps) / n if n else math.nan
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    import numpy as np
    from scipy import stats

    widening = math.sqrt(n / (n - 1)) * stats.t.ppf(TAIL, n - 1) / stats.norm.ppf(TAIL)
    stretched = mean + widening * (np.asarray(gaps) - mean)
    found = stats.bootstrap(
        (stretched,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile",
        rng=np.random.default_rng(0), vectorized=True,
    ).confidence_interval  # fmt: skip
    return Interval(mean, float(found.low), float(found.high), n)


def ratio(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Geometric mean of a / b over pairs, with its 95 % interval; pairs not above 0 are left out.

    >>> [round(x, 6) for x in ratio([2.0, 4.0], [1.0, 2.0])]
    [2.0, 2.0, 2.0, 2]
    """
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x > 0 and y > 0]
    return interval(math.log(x) - math.log(y) for x, y in pairs).mapped(_exp)


def _exp(x: float) -> float:
    return math.exp(x) if x < MOST else math.inf


def probability(a: Sequence[float], b: Sequence[float]) -> float:
    """P(A > B): the share of all pairs of a value of `a` and one of `b`, ties by half.

    Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
    2021.

    >>> probability([1, 3], [2, 3])
    0.375
    """
    won = sum((x > y) + 0.5 * (x == y) for x in a for y in b)
    return won / (len(a) * len(b)) if a and b else math.nan


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of a mean difference over pairs, if swapping a pair changed nothing.

    Exact to 13 pairs; beyond that of as many random swaps as the bootstrap has resamples. The least
    p that n pairs can give is 2^(1 - n): with five .0625.

    >>> permutation_p([1.0, 2.0, 3.5], [0.0, 0.0, 0.0])
    0.25
    """
    import numpy as np
    from scipy import stats

    if len(a) < 2:
        return 1.0 if len(a) else math.nan
    found = stats.permutation_test(
        (np.asarray(a), np.asarray(b)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def least_p(n: int, comparisons: int = 1) -> float:
    """The smallest p, adjusted by Holm, that `permutation_p` can give with n pairs.

    >>> least_p(3, 3), least_p(8, 3)
    (0.75, 0.0234375)
    """
    one = 2.0 ** (1 - n) if n <= EXACT_PAIRS else 2 / (RESAMPLES + 1)
    return min(1.0, comparisons * one)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values for being several (Holm 1979); the order stays.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = least
    return adjusted


def reached(along: Sequence[float], scores: Sequence[float], target: float) -> float:
    """Where a score first comes to `target` or past it, between evaluations linearly; or NaN.

    Args:
        along: Steps or seconds of the evaluations, rising.
        scores: At them; more is better.
        target: To come to.

    >>> reached([10, 20], [0.5, 0.9], 0.7)
    15.0
    """
    for at, score in enumerate(scores):
        if score >= target:
            before = scores[at - 1] if at else score
            part = (target - before) / (score - before) if score > before else 1.0
            return along[at] - (1 - part) * (along[at] - along[at - 1]) if at else float(along[0])
    return math.nan


def best_of_k(scores: Sequence[float]) -> list[float]:
    """The expected best of k of these scores drawn without replacement, for k = 1, 2, ...

    Sorted upwards, the i-th of n is the best of comb(i - 1, k - 1) of comb(n, k) draws. Source:
    Dodge et al., "Show Your Work", 2019, there with replacement.

    >>> [round(x, 3) for x in best_of_k([0.0, 1.0, 2.0])]
    [1.0, 1.667, 2.0]
    """
    falling, n = sorted(scores, reverse=True), len(scores)
    return [math.fsum(_weighted(falling, k)) for k in range(1, n + 1)]


def _weighted(falling: Sequence[float], k: int) -> Iterator[float]:
    """Each score by the chance that it is the best of k: from one to the next a quotient."""
    n = len(falling)
    chance = k / n
    for rank, score in enumerate(falling[: n - k + 1], 1):
        yield chance * score
        chance *= (n - k + 1 - rank) / (n - rank) if rank < n else 0.0


def profile(costs: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[float, float]]]:
    """For every optimizer the share of tasks on which its cost is within tau of the least cost.

    Source: Dolan and More, "Benchmarking optimization software with performance profiles", 2002.

    Args:
        costs: By optimizer, one value per task, in the same order; NaN where it is not reached.

    Returns:
        By optimizer the points (tau, share) where the share rises, from tau = 1 on.

    >>> profile({"a": [1.0, 6.0], "b": [2.0, 3.0]})
    {'a': [(1.0, 0.5), (2.0, 1.0)], 'b': [(1.0, 0.5), (2.0, 1.0)]}
    """
    tasks = zip(*costs.values(), strict=True)
    least = [min((c for c in task if c > 0), default=math.nan) for task in tasks]
    return {optimizer: _shares(mine, least) for optimizer, mine in costs.items()}


def _shares(mine: Sequence[float], least: Sequence[float]) -> list[tuple[float, float]]:
    taus = [cost / best for cost, best in zip(mine, least, strict=True)]
    got = sorted({1.0, *(tau for tau in taus if 1 < tau < math.inf)})
    return [(tau, sum(x <= tau for x in taus) / len(taus)) for tau in got]
