"""How optimizers stand: what their seeds gave, and how each compares with its baseline."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

from tangential_lab.reports import statistics
from tangential_lab.reports.statistics import Interval, interval
from tangential_lab.studies.plan import Plan
from tangential_lab.training.records import Point, Record, Records

Trials = dict[tuple[str, str], dict[int, Record]]  # by optimizer and phase, then by seed


class Reach(NamedTuple):
    """Steps or seconds to the common target, as a mean over seeds.

    A seed that never got there counts as long as the longest ran: the mean is then a lower bound
    (the restricted mean of survival analysis). To leave it out would favour who fails more often.
    """

    mean: float
    there: int
    n: int
    median: float  # inf where no more than half of the seeds got there


class Comparison(NamedTuple):
    """An optimizer against its baseline, over the seeds that both have.

    Ratios are the optimizer's over the baseline's, of the pairs of which neither diverged.
    """

    baseline: str
    difference: Interval  # of the score, raw
    better: float  # P(a seed of the optimizer is better than one of the baseline)
    p: float
    p_holm: float
    family: int  # number of comparisons that p_holm is adjusted for
    norm: Interval  # ratio
    effective_step: Interval  # ratio
    step_s: Interval  # ratio

    @property
    def tested(self) -> bool:
        """Whether p_holm can be small with so few pairs; if not, it says nothing."""
        return statistics.least_p(self.difference.n, self.family) <= statistics.ALPHA


class Range(NamedTuple):
    """The mean over seeds, the lowest and the highest."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> "Range":
        """Of the values that are finite; NaN without any."""
        known = [x for x in values if math.isfinite(x)] or [math.nan]
        return Range(math.fsum(known) / len(known), min(known), max(known))


class Row(NamedTuple):
    """An optimizer in one phase; means leave diverged seeds out, the score counts them as guess."""

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


def trials(records: Records) -> Trials:
    """Trials by optimizer and phase, seeds in order; of tuning trials only one a seed is kept."""
    found: Trials = {}
    for spec in sorted(records, key=lambda spec: spec.seed):
        found.setdefault((spec.optimizer, spec.phase), {})[spec.seed] = records[spec]
    return found


def complete(plan: Plan, records: Records, phase: str = "test") -> bool:
    """Whether every optimizer has all its seeds."""
    found = trials(records)
    return all(
        len(found.get((optimizer, phase), ())) >= plan.seeds for optimizer in plan.optimizers
    )


def target(plan: Plan, found: Trials) -> float:
    """The common target: the worst optimizer's mean final score, diverged seeds apart; or NaN."""
    sound = (
        [r["score"] for r in _sound(found, optimizer, "test").values()]
        for optimizer in plan.optimizers
    )
    means = [math.fsum(scores) / len(scores) for scores in sound if scores]
    return min(means, key=plan.metric.oriented, default=math.nan)


def rows(plan: Plan, records: Records, phase: str = "test") -> list[Row]:
    """A row for every optimizer that has a seed."""
    found = trials(records)
    at = target(plan, found)
    points = {s.optimizer: s.values for s in records if s.phase == phase}
    known = [optimizer for optimizer in plan.optimizers if optimizer in points]
    return adjusted(
        [_row(plan, found, optimizer, phase, points[optimizer], at) for optimizer in known]
    )


def _sound(found: Trials, optimizer: str, phase: str) -> dict[int, Record]:
    mine = found.get((optimizer, phase), {})
    return {seed: record for seed, record in mine.items() if not record["diverged"]}


def _row(plan: Plan, found: Trials, optimizer: str, phase: str, point: Point, at: float) -> Row:
    mine, sound = found[optimizer, phase], _sound(found, optimizer, phase)
    mean: Callable[[str], Interval] = lambda name: interval(r[name] for r in sound.values())
    share = plan.metric.unit == "%"
    names = dict.fromkeys(name for record in sound.values() for name in record["metrics"])
    baseline = plan.baseline(optimizer)
    compared = baseline is not None and mine.keys() & found.get((baseline, phase), {}).keys()
    return Row(
        optimizer=optimizer,
        point=point,
        seeds=len(mine),
        diverged=len(mine) - len(sound),
        score=interval((r["score"] for r in mine.values()), share=share),
        metrics={n: Range.of(r["metrics"].get(n, math.nan) for r in sound.values()) for n in names},
        norm=mean("norm"),
        effective_step=mean("effective_step"),
        memory_share=interval((r["memory_share"] for r in sound.values()), share=True),
        step_s=mean("step_s"),
        optimizer_s=mean("optimizer_s"),
        steps=_reach(plan, list(mine.values()), "step", at),
        seconds=_reach(plan, list(mine.values()), "time_s", at),
        against=_comparison(plan, found, optimizer, str(baseline), phase) if compared else None,
    )


def _reach(plan: Plan, mine: Sequence[Record], along: str, at: float) -> Reach | None:
    """None where no score was taken. Who diverges has not got there, wherever it came by."""
    end = max((x for record in mine for x in record["scores"][along]), default=None)
    if end is None:
        return None
    oriented = plan.metric.oriented
    times = [
        statistics.reached(r["scores"][along], [*map(oriented, r["scores"]["score"])], oriented(at))
        for r in mine
        if not r["diverged"]
    ]
    there = [time for time in times if not math.isnan(time)]
    missing, n = len(mine) - len(there), len(mine)
    middle = median([*there, *[math.inf] * missing])
    return Reach((math.fsum(there) + missing * end) / n, len(there), n, middle)


def _comparison(plan: Plan, found: Trials, optimizer: str, baseline: str, phase: str) -> Comparison:
    mine, theirs = found[optimizer, phase], found[baseline, phase]
    both = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
    sound = [pair for pair in both if not (pair[0]["diverged"] or pair[1]["diverged"])]
    a, b = ([pair[side]["score"] for pair in both] for side in (0, 1))
    ratio: Callable[[str], Interval] = lambda name: statistics.ratio(
        [x[name] for x, _ in sound], [y[name] for _, y in sound]
    )
    p = statistics.permutation_p(a, b)
    better = statistics.probability(*([*map(plan.metric.oriented, x)] for x in (a, b)))
    return Comparison(
        baseline=baseline,
        difference=statistics.difference(a, b),
        better=better,
        p=p,
        p_holm=p,
        family=1,
        norm=ratio("norm"),
        effective_step=ratio("effective_step"),
        step_s=ratio("step_s"),
    )


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """With p adjusted by Holm for all comparisons in these rows: those that one page shows."""
    ps = [row.against.p for row in rows if row.against]
    adjusted_ps = iter(statistics.holm(ps))
    return [
        row._replace(against=row.against._replace(p_holm=next(adjusted_ps), family=len(ps)))
        if row.against
        else row
        for row in rows
    ]


SIMILAR = 10.0  # weight decays that differ by at most this factor


def at_edge(plan: Plan, records: Records) -> dict[str, list[str]]:
    """Optimizers whose best learning rate is at the edge of those tried at a similar weight decay.

    A learning rate that was tried with a weight decay that stops learning has not been tried.

    Returns:
        By edge, "lowest" and "highest", their names; one that had no other trial has both.
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
    """Whether norms and steps at two points can be compared: no setting but the update differs.

    Weight decay brings a norm to an equilibrium that lr * weight_decay decides; without decay the
    learning rate decides how far a norm grows.
    """
    if a == b:
        return True
    if not all(name in point for point in (a, b) for name in ("lr", "weight_decay")):
        return False
    pulls = [point["lr"] * point["weight_decay"] for point in (a, b)]
    return a["lr"] == b["lr"] if not any(pulls) else math.isclose(*pulls, rel_tol=1e-6)
