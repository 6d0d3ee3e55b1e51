"""The results of each optimizer over its seeds, and its comparison with its baseline."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from tangential_lab.reports import statistics
from tangential_lab.reports.statistics import Interval, interval
from tangential_lab.studies import Plan
from tangential_lab.training import Point, Record, Records

Seeds = Mapping[int, Record]
Trials = Mapping[tuple[str, str], Seeds]  # by optimizer and phase, then by seed


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
    """An optimizer against its baseline, over the seeds that both have.

    Ratios are the optimizer's value over the baseline's, for pairs in which neither diverged.
    """

    baseline: str
    difference: Interval  # of the score, even if lower is better
    better: float  # P(a seed of the optimizer is better than one of the baseline)
    p: float
    p_holm: float
    family: int  # number of comparisons that p_holm is adjusted for
    norm: Interval  # ratio
    effective_step: Interval  # ratio
    step_s: Interval  # ratio

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
    against: Comparison | None


def trials_of(records: Records) -> Trials:
    """Trials by optimizer and phase, with seeds in order; only one tuning trial per seed."""
    trials: dict[tuple[str, str], dict[int, Record]] = {}
    for spec in sorted(records, key=lambda spec: spec.seed):
        trials.setdefault((spec.optimizer, spec.phase), {})[spec.seed] = records[spec]
    return trials


def finished_seeds(trials: Trials, optimizer: str, phase: str) -> Seeds:
    """The seeds of an optimizer that did not diverge."""
    seeds = trials.get((optimizer, phase), {})
    return {seed: record for seed, record in seeds.items() if not record["diverged"]}


def complete(plan: Plan, records: Records, phase: str = "test") -> bool:
    """Whether every optimizer has all its seeds."""
    trials = trials_of(records)
    return all(
        len(trials.get((optimizer, phase), ())) >= plan.seeds for optimizer in plan.optimizers
    )


def target_score(plan: Plan, trials: Trials) -> float:
    """The common target: the worst optimizer's mean final score without diverged seeds; or NaN."""
    seeds = [finished_seeds(trials, optimizer, "test") for optimizer in plan.optimizers]
    means = [fmean(record["score"] for record in some.values()) for some in seeds if some]
    return min(means, key=plan.metric.oriented, default=math.nan)


def rows(plan: Plan, records: Records, phase: str = "test") -> list[Row]:
    """A row for every optimizer that has a seed."""
    trials = trials_of(records)
    points = {spec.optimizer: spec.values for spec in records if spec.phase == phase}
    return adjusted(
        [
            _row(plan, trials, name, phase, points[name])
            for name in plan.optimizers
            if name in points
        ]
    )


def _row(plan: Plan, trials: Trials, optimizer: str, phase: str, point: Point) -> Row:
    seeds, finished = trials[optimizer, phase], finished_seeds(trials, optimizer, phase)
    records, sound = [*seeds.values()], [*finished.values()]
    baseline = plan.baseline(optimizer)
    other = trials.get((baseline, phase), {}) if baseline else {}
    names = dict.fromkeys(name for record in sound for name in record["metrics"])
    target = target_score(plan, trials)
    return Row(
        optimizer=optimizer,
        point=point,
        seeds=len(seeds),
        diverged=len(seeds) - len(finished),
        score=interval((r["score"] for r in records), share=plan.metric.unit == "%"),
        metrics={name: Range.of(r["metrics"].get(name, math.nan) for r in sound) for name in names},
        norm=interval(r["norm"] for r in sound),
        effective_step=interval(r["effective_step"] for r in sound),
        memory_share=interval((r["memory_share"] for r in sound), share=True),
        step_s=interval(r["step_s"] for r in sound),
        optimizer_s=interval(r["optimizer_s"] for r in sound),
        steps=_reach(plan, records, "step", target),
        seconds=_reach(plan, records, "time_s", target),
        against=_comparison(plan, seeds, str(baseline), other) if seeds.keys() & other else None,
    )


def _reach(plan: Plan, records: Sequence[Record], unit: str, target: float) -> Reach | None:
    """Time to the target; None without evaluations. Diverged seeds never reach the target."""
    end = max((x for record in records for x in record["scores"][unit]), default=None)
    if end is None:
        return None
    oriented, sound = plan.metric.oriented, [r["scores"] for r in records if not r["diverged"]]
    times = [
        statistics.first_reached(s[unit], [*map(oriented, s["score"])], oriented(target))
        for s in sound
    ]
    reached = [time for time in times if not math.isnan(time)]
    missing, n = len(records) - len(reached), len(records)
    middle = median([*reached, *[math.inf] * missing])
    return Reach((math.fsum(reached) + missing * end) / n, len(reached), n, middle)


def _comparison(plan: Plan, seeds: Seeds, baseline: str, other: Seeds) -> Comparison:
    pairs = [(seeds[seed], other[seed]) for seed in seeds if seed in other]
    sound = [pair for pair in pairs if not (pair[0]["diverged"] or pair[1]["diverged"])]
    scores, others = ([pair[side]["score"] for pair in pairs] for side in (0, 1))

    def ratio(name: str) -> Interval:
        return statistics.ratio([a[name] for a, _ in sound], [b[name] for _, b in sound])

    p = statistics.permutation_p(scores, others)
    better = statistics.probability(
        *([*map(plan.metric.oriented, some)] for some in (scores, others))
    )
    return Comparison(
        baseline=baseline,
        difference=statistics.difference(scores, others),
        better=better,
        p=p,
        p_holm=p,
        family=1,
        norm=ratio("norm"),
        effective_step=ratio("effective_step"),
        step_s=ratio("step_s"),
    )


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """The rows with p adjusted by Holm for all comparisons in these rows, those of one page."""
    ps = [row.against.p for row in rows if row.against]
    adjusted_ps = iter(statistics.holm(ps))
    return [
        row._replace(against=row.against._replace(p_holm=next(adjusted_ps), family=len(ps)))
        if row.against
        else row
        for row in rows
    ]


SIMILAR = 10.0  # weight decays are similar if they differ by at most this factor


def at_edge(plan: Plan, records: Records) -> dict[str, list[str]]:
    """Optimizers whose best learning rate is at the edge of those tried at a similar weight decay.

    A trial whose weight decay stops learning tells nothing about its learning rate.

    Returns:
        Names of optimizers for "lowest" and for "highest"; an optimizer with one trial has both.
    """
    edges: dict[str, list[str]] = {"lowest": [], "highest": []}
    for optimizer in plan.optimizers:
        tried = [s for s in records if s[:2] == (optimizer, "tune") and "lr" in s.values]
        if tried:
            best = max(tried, key=lambda spec: plan.rank(records[spec])).values
            lrs = [s.values["lr"] for s in tried if _similar(s.values, best)]
            edges["lowest"] += [optimizer] if best["lr"] == min(lrs) else []
            edges["highest"] += [optimizer] if best["lr"] == max(lrs) else []
    return edges


def _similar(a: Point, b: Point) -> bool:
    decays = sorted(point.get("weight_decay", 1.0) for point in (a, b))
    return decays[1] <= SIMILAR * decays[0]


def comparable(a: Point, b: Point) -> bool:
    """Whether norms and steps at two points differ only because of the update.

    Weight decay brings a norm to an equilibrium that lr * weight_decay decides; without decay the
    learning rate decides how far a norm grows.
    """
    if a == b:
        return True
    if not all(name in point for point in (a, b) for name in ("lr", "weight_decay")):
        return False
    products = [point["lr"] * point["weight_decay"] for point in (a, b)]
    return a["lr"] == b["lr"] if not any(products) else math.isclose(*products, rel_tol=1e-6)
