"""The search of a study: its points, its trials, and what they say about the best point."""

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import NamedTuple

from tangential_lab.studies.plan import Plan
from tangential_lab.studies.search import (
    SOBOL_POINTS,
    Grid,
    Widening,
    points_around,
    quasi_random_points,
)
from tangential_lab.training import Metric, Point, Record, Records, Spec

MOST_WIDENED = Widening(lower=2, higher=2, decays=1)
SIMILAR = 10.0  # weight decays are similar if they differ by at most this factor


class Tuned(NamedTuple):
    """A point of the search, with the records of its tuning seeds."""

    point: Point
    records: list[Record]

    @property
    def diverged(self) -> bool:
        """Whether a seed diverged."""
        return any(record["diverged"] for record in self.records)

    @property
    def score(self) -> float:
        """The mean over seeds."""
        return fmean(record["score"] for record in self.records)

    def rank(self, metric: Metric) -> tuple[bool, float, float]:
        """A key for sorting, the best last: by divergence, then by mean score, then by loss."""
        loss = fmean(record["loss"] for record in self.records)
        return not self.diverged, metric.oriented(self.score), -loss


def ranking(plan: Plan, records: Records, optimizer: str) -> list[Tuned]:
    """The tuned points of an optimizer, the best one first."""
    seeds: dict[tuple[tuple[str, float], ...], list[Record]] = {}
    for spec, record in records.items():
        if spec.optimizer == optimizer and spec.phase == "tune":
            seeds.setdefault(spec.point, []).append(record)
    tuned = [Tuned(dict(point), some) for point, some in seeds.items()]
    return sorted(tuned, key=lambda point: point.rank(plan.metric), reverse=True)


def best_point(plan: Plan, records: Records, optimizer: str) -> Point:
    """The best tuned point of an optimizer or its leader; without tuning, its published point."""
    optimizer = plan.optimizers[optimizer].leader or optimizer
    tuned = ranking(plan, records, optimizer)
    return tuned[0].point if tuned else plan.optimizers[optimizer].published


def tuning_trials(plan: Plan, records: Records) -> list[Spec]:
    """The tuning trials: every point on every tuning seed.

    When all trials of a grid are finished and an optimizer's best point lies at an edge, the grid
    is widened there for all optimizers, at most `MOST_WIDENED` times. A sweep is not widened.
    """
    return _search(plan, records)[0]


def at_edge(plan: Plan, records: Records) -> dict[str, Widening]:
    """The optimizers whose best point lies at an edge of the finished search, and at which."""
    specs, widening = _search(plan, records)
    if plan.sweep or not specs or any(spec not in records for spec in specs):
        return {}
    tuning = {spec: records[spec] for spec in specs}
    edges = {name: _edges_of_drawn(plan, tuning, name) for name in plan.tuned}
    edges |= _edges(plan, widening, tuning)
    return {name: edge for name, edge in edges.items() if any(edge)}


def _edges_of_drawn(plan: Plan, tuning: Records, optimizer: str) -> Widening:
    """Whether the best learning rate is the lowest or highest of those with a similar decay.

    A trial whose weight decay stops learning tells nothing about its learning rate.
    """
    best = best_point(plan, tuning, optimizer)
    points = [spec.values for spec in tuning if spec.optimizer == optimizer]
    lrs = [point["lr"] for point in points if "lr" in point and _similar(point, best)]
    return Widening(*(int(bool(lrs) and best["lr"] == end(lrs)) for end in (min, max)))


def _similar(a: Point, b: Point) -> bool:
    decays = sorted(point.get("weight_decay", 1.0) for point in (a, b))
    return decays[1] <= SIMILAR * decays[0]


def _search(plan: Plan, records: Records) -> tuple[list[Spec], Widening]:
    """The tuning trials, and how far the grid is widened."""
    widening = Widening()
    while True:
        specs = _points_on_seeds(plan, widening)
        if plan.sweep or any(spec not in records for spec in specs):
            return specs, widening
        edges = _edges(plan, widening, {spec: records[spec] for spec in specs})
        wider = Widening(
            *(
                min(most, done + any(edge[i] for edge in edges.values()))
                for i, (done, most) in enumerate(zip(widening, MOST_WIDENED, strict=True))
            )
        )
        if wider == widening:
            return specs, widening
        widening = wider


def _points_on_seeds(plan: Plan, widening: Widening) -> list[Spec]:
    points = {name: _points(plan, name, widening) for name in plan.tuned}
    specs = [
        Spec(name, "tune", seed, tuple(tried[i].items()))
        for i in range(max(map(len, points.values()), default=0))
        for seed in range(plan.tuning_seeds)
        for name, tried in points.items()
        if i < len(tried)
    ]
    return list(dict.fromkeys(specs))  # points of a narrow search space may coincide


def _points(plan: Plan, name: str, widening: Widening) -> list[Point]:
    optimizer = plan.optimizers[name]
    if optimizer.space is not None:
        return quasi_random_points(optimizer.space, plan.trials)
    if grid := _grid(plan, name, widening):
        return grid.points
    steps = plan.steps * optimizer.decay_multiplier
    return points_around(optimizer.published, steps, plan.trials)


def decay_level(plan: Plan, optimizer: str, point: Point) -> float:
    """What the weight decay of a grid's point does over a run, without the point's rounding."""
    return float(f"{plan.decay_over_run(optimizer, point):.2g}")


def is_grid(plan: Plan) -> bool:
    """Whether all optimizers are searched on a grid."""
    return list(_grids(plan, Widening())) == plan.tuned


def _grids(plan: Plan, widening: Widening) -> dict[str, Grid]:
    """The grids of the optimizers that are searched on one."""
    grids = {name: _grid(plan, name, widening) for name in plan.tuned}
    return {name: grid for name, grid in grids.items() if grid}


def _grid(plan: Plan, name: str, widening: Widening) -> Grid | None:
    """The grid of an optimizer; None if its points are quasi-random, and without tuning."""
    optimizer = plan.optimizers[name]
    if optimizer.space is not None or not 0 < plan.trials < SOBOL_POINTS:
        return None
    steps = plan.steps * optimizer.decay_multiplier
    return Grid(optimizer.published["lr"], steps, plan.trials, widening)


def _edges(plan: Plan, widening: Widening, tuning: Records) -> dict[str, Widening]:
    grids = _grids(plan, widening)
    return {name: grid.edges(best_point(plan, tuning, name)) for name, grid in grids.items()}


def tuning_noise(tuned: Sequence[Tuned]) -> float:
    """The standard error of the difference of two points' mean scores; infinite with one seed."""
    scores = [[record["score"] for record in point.records] for point in tuned]
    seeds = min(map(len, scores))
    return math.sqrt(2 * fmean(map(variance, scores)) / seeds) if seeds > 1 else math.inf
