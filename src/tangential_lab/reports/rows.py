"""What a report says about an optimizer: its results, and its comparisons with its baselines."""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

from tangential_lab import statistics
from tangential_lab.statistics import Interval
from tangential_lab.training import Point


class Reach(NamedTuple):
    """Steps or seconds to the common target, as a mean over seeds.

    A seed that never reached it counts as long as the longest run: the mean is then a lower bound
    (the restricted mean of survival analysis). Without these seeds, an optimizer that fails more
    often would look faster.
    """

    mean: float
    reached: int
    n: int
    median: float  # inf if no more than half of the seeds reached it


class Comparison(NamedTuple):
    """An optimizer against a baseline, over the seeds that both have.

    Ratios are the optimizer's value over the baseline's, for pairs in which neither diverged.
    """

    baseline: str
    difference: Interval  # of the score, even if lower is better
    better: float  # share of pairs in which the optimizer is better
    p: float  # of a difference; the largest one, if there are runner-ups
    p_equal: float  # of a difference of the metric's margin or more
    family: int  # number of comparisons on the page
    p_holm: float  # p adjusted for all of them
    p_equal_holm: float
    error: float  # standard error of the mean difference
    runner_ups: list[Interval]  # the difference if the worse one had chosen another point
    norm: Interval  # ratio
    effective_step: Interval  # ratio
    step_s: Interval  # ratio

    @property
    def detectable(self) -> float:
        """The smallest difference that so many seeds would have shown."""
        return statistics.smallest_detectable(self.error, self.difference.n, self.family)

    @property
    def tested(self) -> bool:
        """Whether p_holm can be significant with this number of pairs."""
        return statistics.least_p(self.difference.n, self.family) <= statistics.ALPHA


class Range(NamedTuple):
    """The mean over seeds, the lowest and the highest."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> "Range":
        """The range of the finite values; NaN if there are none."""
        finite = [x for x in values if math.isfinite(x)] or [math.nan]
        return Range(fmean(finite), min(finite), max(finite))


class Row(NamedTuple):
    """An optimizer in one phase. Diverged seeds get the chance score; other means exclude them."""

    optimizer: str
    point: Point
    seeds: int
    diverged: int
    score: Interval
    metrics: dict[str, Range]
    norm: Interval
    effective_step: Interval
    memory_share: Interval
    step_s: Interval
    optimizer_s: Interval
    steps: Reach | None
    seconds: Reach | None
    comparisons: list[Comparison]

    def against(self, baseline: str) -> Comparison | None:
        """The comparison with this baseline, if there is one."""
        return next((pair for pair in self.comparisons if pair.baseline == baseline), None)
