"""Tuning points for every optimizer: a grid, or points drawn by Optuna.

The decay of a point is chosen by what it does over a run: without gradients, a weight would shrink
to exp(-lr * weight_decay * steps), under SGD to exp(-lr * weight_decay * steps / (1 - momentum)).
Other modules get Optuna from here.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from types import ModuleType
from typing import NamedTuple

from tangential_lab.training import Point, Space

Axes = tuple[tuple[str, tuple[float, float]], ...]  # a search space that can be a key of a cache

SOBOL_SEED = 2021
SOBOL_POINTS = 16  # from this number of points on; a grid is used below it
LR_FACTOR = 3.0  # between neighbouring learning rates of a grid
LR_RANGE = 10.0  # Sobol points lie within this factor of the published learning rate
DECAYS_OVER_RUN = (0.0, 0.3, 3.0, 10.0)  # a grid begins with 1 to 3 of them
DECAY_RANGE = (0.01, 3.0)  # of Sobol points


@cache
def optuna() -> ModuleType:
    """The module optuna, imported at its first use; it logs only warnings and errors."""
    import optuna  # takes a second, and --help does not need it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextmanager
def without_experimental_warnings() -> Iterator[None]:
    """Silences Optuna's warnings that a feature may change: our tests find out when it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna().exceptions.ExperimentalWarning)
        yield


class Widening(NamedTuple):
    """How many learning rates and decays a grid has beyond those it began with."""

    lower: int = 0  # learning rates below
    higher: int = 0  # learning rates above
    decays: int = 0  # higher decays


class Grid(NamedTuple):
    """Learning rates around the published one, crossed with decays.

    Args:
        lr: The published learning rate.
        steps: Number of steps of a trial, times the optimizer's `decay_multiplier`.
        size: Number of points before the grid is widened, >= 1.
        widening: Learning rates and decays beyond those.
    """

    lr: float
    steps: float
    size: int
    widening: Widening = Widening()

    @property
    def decays(self) -> tuple[float, ...]:
        """Values of lr * weight_decay * steps: three from 9 points on, two from 6 on, else 0."""
        return DECAYS_OVER_RUN[: self._decays + self.widening.decays]

    @property
    def _decays(self) -> int:
        return max(1, min(3, self.size // 3))

    @property
    def rates(self) -> list[float]:
        """Learning rates, a factor of 3 apart, with the published one in the middle."""
        count = self.size // self._decays
        lowest = -(count // 2) - self.widening.lower
        highest = (count - 1) // 2 + self.widening.higher
        return [_rounded(self.lr * LR_FACTOR**power) for power in range(lowest, highest + 1)]

    @property
    def points(self) -> list[Point]:
        """All points, the published learning rate first."""
        from_middle = sorted(self.rates, key=lambda lr: abs(math.log(lr / self.lr)))
        return [
            {"lr": lr, "weight_decay": _rounded(decay / (lr * self.steps))}
            for lr in from_middle
            for decay in self.decays
        ]

    def edges(self, best: Point) -> Widening:
        """At which edges a point of the grid lies; no decay at all is not an edge."""
        rates = self.rates
        highest = _rounded(self.decays[-1] / (best["lr"] * self.steps))
        return Widening(
            int(best["lr"] == rates[0]),
            int(best["lr"] == rates[-1]),
            int(best["weight_decay"] == highest > 0),
        )


def quasi_random_points(space: Space, count: int) -> list[Point]:
    """Scrambled Sobol points, log-uniform in the search space, rounded to four digits.

    The first points do not depend on `count`. Spaces with the same number of settings get the
    same points of the unit cube.
    """
    return [dict(point) for point in _sobol_points(tuple(space.items()), count)]


def points_around(published: Mapping[str, float], steps: float, count: int) -> list[Point]:
    """Quasi-random points within a factor of 10 of the published learning rate.

    Drawn log-uniformly: lr, and lr * weight_decay * steps within `DECAY_RANGE`.
    """
    lr = published["lr"]
    space = {"lr": (lr / LR_RANGE, lr * LR_RANGE), "decay_over_run": DECAY_RANGE}
    return [
        {"lr": p["lr"], "weight_decay": _rounded(p["decay_over_run"] / (p["lr"] * steps))}
        for p in quasi_random_points(space, count)
    ]


@lru_cache(maxsize=64)
def _sobol_points(axes: Axes, count: int) -> list[Point]:
    if not count:
        return []
    with without_experimental_warnings():
        sampler = optuna().samplers.QMCSampler(scramble=True, seed=SOBOL_SEED)
    study, trial = optuna().create_study(sampler=sampler), optuna().trial.create_trial(value=0.0)
    distributions = {
        name: optuna().distributions.FloatDistribution(low, high, log=True)
        for name, (low, high) in axes
    }
    points = [sampler.sample_relative(study, trial, distributions) for _ in range(count)]
    return [{name: _rounded(x) for name, x in point.items()} for point in points]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
