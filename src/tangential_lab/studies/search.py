"""Tuning points for every optimizer, drawn by Optuna; other modules get Optuna from here."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from types import ModuleType

from tangential_lab.training import Point, Space

Axes = tuple[tuple[str, tuple[float, float]], ...]  # a search space that can be a key of a cache

SOBOL_SEED = 2021


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


def quasi_random_points(space: Space, count: int) -> list[Point]:
    """Scrambled Sobol points, log-uniform in the search space, rounded to four digits.

    The first points do not depend on `count`. Spaces with the same number of settings get the
    same points of the unit cube.
    """
    return [dict(point) for point in _sobol_points(tuple(space.items()), count)]


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
    return [{name: float(f"{x:.4g}") for name, x in point.items()} for point in points]
