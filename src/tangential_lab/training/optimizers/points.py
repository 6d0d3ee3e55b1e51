"""The settings at which an optimizer runs without a search: published ones, or the user's."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tangential_lab.names import unknown_name
from tangential_lab.training.optimizers.entries import FAMILIES, OptimizerEntry
from tangential_lab.training.task import Point


def untuned_point(
    name: str,
    entry: OptimizerEntry,
    published: Mapping[str, Point],
    given: Mapping[str, Point] = MappingProxyType({}),
) -> Point:
    """The point without tuning: the published one, or the middle of the optimizer's own space.

    Args:
        name: The optimizer.
        entry: The optimizer.
        published: A task's published points, by optimizer; one without its own has its family's.
        given: Settings that replace published ones, by family or optimizer; the latter wins.

    Raises:
        ValueError: `given` has a setting for this optimizer that its own space lacks.
    """
    base = name.partition("-")[0]  # adamp-matched has the point of adamp
    known = dict(published.get(base, published[entry.family]))
    for key in (entry.family, base, name):
        known |= given.get(key, {})
    if entry.space is None:
        return known
    if unknown := given.get(name, {}).keys() - entry.space.keys():
        settings = ", ".join(entry.space) or "no settings"
        raise ValueError(f"{name} has {settings}, got {', '.join(sorted(unknown))}: leave it out")
    return {name: known.get(name, math.sqrt(a * b)) for name, (a, b) in entry.space.items()}


def check_given(given: Mapping[str, Point], optimizers: Iterable[str]) -> None:
    """ValueError if a given setting is out of range, or for an optimizer that is not one of these.

    >>> check_given({"sgd": {"lr": -0.1}}, ["sgdp"])
    Traceback (most recent call last):
    ValueError: lr of sgd must be a finite number > 0, got -0.1
    """
    known = dict.fromkeys([*FAMILIES, *optimizers])
    for name, point in given.items():
        if name not in known:
            raise ValueError(unknown_name(name, known, "optimizer or family"))
        for setting, value in point.items():
            positive = setting == "lr"
            if not (math.isfinite(value) and (value > 0 if positive else value >= 0)):
                least = "> 0" if positive else ">= 0"
                raise ValueError(
                    f"{setting} of {name} must be a finite number {least}, got {value:g}"
                )
