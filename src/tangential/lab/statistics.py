"""What the report claims, and no more than its intervals allow."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval; without spread it has no width."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    @property
    def covers_zero(self) -> bool:
        """Whether no difference is within the interval."""
        return self.low <= 0 <= self.high


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval by Student's t; one value alone has an infinite one.

    >>> Interval(*(round(x, 3) for x in interval([1.0, 2.0, 3.0])))
    Interval(mean=2.0, low=-0.484, high=4.484)
    """
    from scipy import stats  # a second to import, and --help needs none of it

    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1) / n)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return Interval(mean, mean - half, mean + half)


def paired(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Mean difference of runs paired by seed, with its 95 % interval by Student's t."""
    return interval([a - b for a, b in zip(values, baseline, strict=True)])


def finding(rival: str, baseline: str, metric: str, difference: Interval) -> str:
    """The difference in a plain sentence; "no difference seen" where its interval covers 0."""
    points = (
        f"{100 * difference.mean:+.2f} points, "
        f"95 % interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    )
    if difference.covers_zero or not math.isfinite(difference.mean):
        return f"{metric}, tuned: no difference seen between {rival} and {baseline} ({points})"
    side = "ahead of" if difference.mean > 0 else "behind"
    return f"{metric}, tuned: {rival} is {side} {baseline} ({points})"
