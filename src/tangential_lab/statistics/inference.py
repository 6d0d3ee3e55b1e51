"""Intervals and tests for few seeds. scipy takes a second to import: it is imported where used."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from statistics import fmean, stdev
from typing import NamedTuple

LEVEL = 0.95
ALPHA = 1 - LEVEL
TAIL = ALPHA / 2
MIN_SEEDS = 8  # with fewer, nothing is called ahead or behind
RESAMPLES = 9_999
EXACT_PAIRS = 13  # 2^13 swaps are fewer than the resamples
MAX_LOG = math.log(sys.float_info.max)  # math.exp raises above it


class Interval(NamedTuple):
    """A mean with its 95 % interval, which is infinite for a single value."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether the interval has finite ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    def covers(self, value: float) -> bool:
        """Whether `value` lies in the interval."""
        return not (value < self.low or value > self.high)

    def mapped(self, function: Callable[[float], float]) -> "Interval":
        """Mean and ends after a monotonically rising function."""
        mean, low, high = map(function, self[:3])
        return Interval(mean, low, high, self.n)


def interval(values: Iterable[float], *, share: bool = False) -> Interval:
    """Mean and 95 % interval by Student's t; values that are not finite are left out.

    The same as `scipy.stats.ttest_1samp(values, 0).confidence_interval()`, which overflows on
    enormous scores and warns about equal ones.

    Args:
        values: One per seed.
        share: The values are shares. The interval of a mean between 0 and 1 is made on the scale
            of log(mean / (1 - mean)), so that its ends stay between 0 and 1.

    >>> [round(x, 3) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 3]
    """
    finite = [x for x in values if math.isfinite(x)]
    n = len(finite)
    mean = fmean(finite) if n else math.nan
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    from scipy import stats

    half = float(stats.t.ppf(1 - TAIL, n - 1)) * stdev(finite) / math.sqrt(n)
    if not (share and 0 < mean < 1):
        return Interval(mean, mean - half, mean + half, n)
    odds, width = mean / (1 - mean), math.exp(min(half / (mean * (1 - mean)), MAX_LOG))
    return Interval(mean, odds / (odds + width), 1 / (1 + 1 / odds / width), n)


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over pairs, with a 95 % bootstrap interval that keeps its level at few seeds.

    At small n, percentiles of the resampled mean are too narrow by the factors sqrt(n / (n - 1))
    and t / z (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). He suggests wider
    percentiles, but they cannot go beyond the outermost values: with three pairs they cover 76 %.
    Here both factors stretch the sample about its mean, which covers 94 % for two or more pairs.

    Args:
        a: One value per seed.
        b: Values of the same seeds, in the same order.

    >>> difference([3.0, 4.0], [1.0, 2.0])[:3]
    (2.0, 2.0, 2.0)
    """
    return _mean_interval(tuple(x - y for x, y in zip(a, b, strict=True)))


@lru_cache(maxsize=1024)  # a study asks for the same intervals before every trial
def _mean_interval(gaps: tuple[float, ...]) -> Interval:
    n = len(gaps)
    mean = fmean(gaps) if n else math.nan
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    import numpy as np
    from scipy import stats

    widening = math.sqrt(n / (n - 1)) * stats.t.ppf(TAIL, n - 1) / stats.norm.ppf(TAIL)
    stretched = mean + widening * (np.asarray(gaps) - mean)
    ends = stats.bootstrap(
        (stretched,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile",
        rng=np.random.default_rng(0), vectorized=True,
    ).confidence_interval  # fmt: skip
    return Interval(mean, float(ends.low), float(ends.high), n)


def ratio(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Geometric mean of a / b over pairs with its 95 % interval; pairs need a > 0 and b > 0.

    >>> [round(x, 6) for x in ratio([2.0, 4.0], [1.0, 2.0])]
    [2.0, 2.0, 2.0, 2]
    """
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x > 0 and y > 0]
    logs = interval(math.log(x) - math.log(y) for x, y in pairs)
    return logs.mapped(lambda x: math.exp(x) if x < MAX_LOG else math.inf)


def probability(a: Sequence[float], b: Sequence[float]) -> float:
    """The share of pairs in which the value of `a` is greater than that of `b`; a tie counts half.

    Args:
        a: One value per seed.
        b: Values of the same seeds, in the same order.

    >>> probability([1, 3, 2, 5], [2, 2, 2, 4])
    0.625
    """
    wins = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in zip(a, b, strict=True)]
    return fmean(wins) if wins else math.nan


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value of a mean difference over pairs: a paired permutation test.

    Exact for up to 13 pairs; with more pairs, it uses `RESAMPLES` random swaps.
    The least p that n pairs can give is 2^(1 - n): .0625 with five.

    >>> permutation_p([1.0, 2.0, 3.5], [0.0, 0.0, 0.0])
    0.25
    """
    import numpy as np
    from scipy import stats

    if len(a) < 2:
        return 1.0 if len(a) else math.nan
    test = stats.permutation_test(
        (np.asarray(a), np.asarray(b)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def standard_error(a: Sequence[float], b: Sequence[float]) -> float:
    """The standard error of the mean of a - b over pairs; infinite for less than two pairs."""
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    return stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf


def equivalence_p(a: Sequence[float], b: Sequence[float], margin: float) -> float:
    """The p of two one-sided paired t-tests; small if the mean difference is within the margin.

    Source: Schuirmann, "A comparison of the two one-sided tests procedure ...", 1987.

    Args:
        a: One value per seed.
        b: Values of the same seeds, in the same order.
        margin: The largest difference that does not matter, > 0; chosen before the study.

    >>> equivalence_p([1.0, 2.1, 2.9], [1.1, 2.0, 3.0], margin=1.0) < 0.05
    True
    """
    error = standard_error(a, b)
    if error == math.inf:
        return 1.0
    room = margin - abs(fmean(a) - fmean(b))
    if not error:
        return 0.0 if room > 0 else 1.0
    from scipy import stats

    return float(stats.t.sf(room / error, len(a) - 1))


def smallest_detectable(error: float, n: int, comparisons: int = 1) -> float:
    """The mean difference from which a paired t-test is significant.

    Args:
        error: Standard error of the mean difference.
        n: Number of pairs.
        comparisons: Number of comparisons; the level is divided by it.

    >>> round(smallest_detectable(1.0, 8), 2), round(smallest_detectable(1.0, 8, 3), 2)
    (2.36, 3.13)
    """
    if n < 2:
        return math.inf
    from scipy import stats

    return error * float(stats.t.isf(TAIL / comparisons, n - 1))


def least_p(n: int, comparisons: int = 1) -> float:
    """The smallest p, adjusted by Holm, that `permutation_p` can give with n pairs.

    >>> least_p(3, 3), least_p(8, 3)
    (0.75, 0.0234375)
    """
    least = 2.0 ** (1 - n) if n <= EXACT_PAIRS else 2 / (RESAMPLES + 1)
    return min(1.0, comparisons * least)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values, adjusted for several comparisons (Holm 1979), in the same order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted
