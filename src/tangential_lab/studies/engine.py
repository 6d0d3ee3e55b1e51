"""Optuna, imported when it is used and quiet: its own points and its own stores."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from types import ModuleType

Point = dict[str, float]
Bounds = tuple[tuple[str, float, float], ...]

SPACE_SEED = 2021


@cache
def optuna() -> ModuleType:
    """The module; it logs nothing but what goes wrong."""
    import optuna  # a second to import, and --help needs none of it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextmanager
def without_experimental_warnings() -> Iterator[None]:
    """Optuna does not warn that a feature may change: the version that is tested is pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna().exceptions.ExperimentalWarning)
        yield


def quasi_random_points(space: dict[str, tuple[float, float]], count: int) -> list[Point]:
    """Quasi-random points (scrambled Sobol), log-uniform, to four digits.

    Fewer are a prefix of more; spaces of as many axes have the same points of the unit cube.
    """
    return [
        dict(p) for p in _points(tuple((k, low, high) for k, (low, high) in space.items()), count)
    ]


@lru_cache(maxsize=64)
def _points(bounds: Bounds, count: int) -> list[Point]:
    if not count:
        return []
    with without_experimental_warnings():
        sampler = optuna().samplers.QMCSampler(scramble=True, seed=SPACE_SEED)
    study, blank = optuna().create_study(sampler=sampler), optuna().trial.create_trial(value=0.0)
    axes = {k: optuna().distributions.FloatDistribution(a, b, log=True) for k, a, b in bounds}
    drawn = [sampler.sample_relative(study, blank, axes) for _ in range(count)]
    return [{name: float(f"{x:.4g}") for name, x in point.items()} for point in drawn]
