"""The results of each optimizer over its seeds, its comparisons, and the grid of a sweep."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import Any, NamedTuple

from tangential_lab import statistics
from tangential_lab.reports.rows import Comparison, Range, Reach, Row
from tangential_lab.reports.wording import score
from tangential_lab.statistics import Interval, interval
from tangential_lab.studies import Plan, tuning
from tangential_lab.training import Metric, Point, Record, Records, Spec

Seeds = Mapping[int, Record]
Trials = Mapping[tuple[str, str], Seeds]  # by optimizer and phase, then by seed


def trials_of(plan: Plan, records: Records) -> Trials:
    """Trials by optimizer and phase, with seeds in order; only one tuning trial per seed."""
    chosen = _chosen(plan, records) if plan.sweep else {(s.phase, s): s for s in records}
    trials: dict[tuple[str, str], dict[int, Record]] = {}
    for (phase, _), spec in sorted(chosen.items(), key=lambda item: item[1].seed):
        trials.setdefault((spec.optimizer, phase), {})[spec.seed] = records[spec]
    return trials


def _chosen(plan: Plan, records: Records) -> dict[tuple[str, Spec], Spec]:
    """The trials of a sweep that stand for test trials: nothing is chosen on its own seed.

    "test": on every seed, the point that was best on the other seeds. "undecayed": all optimizers
    at their published learning rate, without weight decay.
    """
    chosen = {}
    for seed in {spec.seed for spec in records}:
        others = {s: r for s, r in records.items() if s.seed != seed} or records
        for name, optimizer in plan.optimizers.items():
            best = tuning.best_point(plan, others, name)
            for phase, point in ("test", best), ("undecayed", without_decay(optimizer.published)):
                spec = Spec(name, "tune", seed, tuple(point.items()))
                if spec in records:
                    chosen[phase, spec] = spec
    return chosen


def without_decay(point: Point) -> Point:
    """The point with no weight decay."""
    return {name: 0.0 if name == "weight_decay" else value for name, value in point.items()}


def finished_seeds(trials: Trials, optimizer: str, phase: str) -> Seeds:
    """The seeds of an optimizer that did not diverge."""
    seeds = trials.get((optimizer, phase), {})
    return {seed: record for seed, record in seeds.items() if not record["diverged"]}


def target_score(plan: Plan, trials: Trials) -> float:
    """The common target: the worst optimizer's mean final score without diverged seeds; or NaN."""
    seeds = [finished_seeds(trials, optimizer, "test") for optimizer in plan.optimizers]
    means = [fmean(record["score"] for record in some.values()) for some in seeds if some]
    return min(means, key=plan.metric.oriented, default=math.nan)


def rows(plan: Plan, records: Records, phase: str = "test") -> list[Row]:
    """A row for every optimizer that has a seed."""
    trials = trials_of(plan, records)
    points = {spec.optimizer: spec.values for spec in records if spec.phase == phase}
    if plan.sweep:
        at = {"test": lambda name: tuning.best_point(plan, records, name)}
        at["undecayed"] = lambda name: without_decay(plan.optimizers[name].published)
        points = {name: at[phase](name) for name, kind in trials if kind == phase}
    results = [
        _row(plan, trials, name, phase, points[name]) for name in plan.optimizers if name in points
    ]
    if phase == "test":
        more = partial(_with_runner_ups, plan.metric, trials=trials, records=records)
        results = [
            row._replace(comparisons=[more(row.optimizer, pair) for pair in row.comparisons])
            for row in results
        ]
    return adjusted(results)


def _row(plan: Plan, trials: Trials, optimizer: str, phase: str, point: Point) -> Row:
    seeds, finished = trials[optimizer, phase], finished_seeds(trials, optimizer, phase)
    records, sound = [*seeds.values()], [*finished.values()]
    baselines = plan.baselines(optimizer) if plan.can_differ(optimizer, point) else []
    if phase == "undecayed":
        baselines = baselines[:1]  # the one at whose learning rate the optimizer ran
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
        memory_share=interval(map(_share, (r["memory_share"] for r in sound)), share=True),
        step_s=interval(r["step_s"] for r in sound),
        optimizer_s=interval(r["optimizer_s"] for r in sound),
        steps=_reach(plan, records, "step", target),
        seconds=_reach(plan, records, "time_s", target),
        comparisons=[
            _comparison(plan, seeds, baseline, other)
            for baseline in baselines
            if seeds.keys() & (other := trials.get((baseline, phase), {})).keys()
        ],
    )


def _share(x: float) -> float:
    """A share of growth; NaN where the causes cancel each other, so that there are no shares."""
    return x if 0 <= x <= 1 else math.nan


def _reach(plan: Plan, records: Sequence[Record], unit: str, target: float) -> Reach | None:
    """Time to the target, which diverged seeds never reach; None without evaluations on the way."""
    end = max((x for record in records for x in record["scores"][unit]), default=None)
    if end is None or all(len(record["scores"][unit]) < 2 for record in records):
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

    oriented = ([*map(plan.metric.oriented, some)] for some in (scores, others))
    return Comparison(
        baseline=baseline,
        difference=statistics.difference(scores, others),
        better=statistics.probability(*oriented),
        p=statistics.permutation_p(scores, others),
        p_equal=statistics.equivalence_p(scores, others, plan.metric.margin),
        family=0,  # see `adjusted`
        p_holm=math.nan,
        p_equal_holm=math.nan,
        error=statistics.standard_error(scores, others),
        runner_ups=[],
        norm=ratio("norm"),
        effective_step=ratio("effective_step"),
        step_s=ratio("step_s"),
    )


def _with_runner_ups(
    metric: Metric, optimizer: str, against: Comparison, trials: Trials, records: Records
) -> Comparison:
    """The comparison, with the differences if the worse of the two had chosen a runner-up."""
    ahead = metric.oriented(against.difference.mean) > 0
    worse, better = optimizer, against.baseline
    if ahead:
        worse, better = better, worse
    points: dict[Any, dict[int, float]] = {}
    for spec, record in records.items():
        if spec.phase == "runner-up" and spec.optimizer == worse:
            points.setdefault(spec.point, {})[spec.seed] = record["score"]
    differences, ps = [], [against.p]
    for scores in points.values():
        pair = [trials[better, "test"][seed]["score"] for seed in scores], [*scores.values()]
        a, b = pair if ahead else reversed(pair)
        differences.append(statistics.difference(a, b))
        ps.append(statistics.permutation_p(a, b))
    return against._replace(runner_ups=differences, p=max(ps))


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """The rows with both p adjusted by Holm for all comparisons in these rows."""
    pairs = [pair for row in rows for pair in row.comparisons]
    differ = iter(statistics.holm([pair.p for pair in pairs]))
    equal = iter(statistics.holm([pair.p_equal for pair in pairs]))
    return [
        row._replace(
            comparisons=[
                pair._replace(family=len(pairs), p_holm=next(differ), p_equal_holm=next(equal))
                for pair in row.comparisons
            ]
        )
        for row in rows
    ]


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


# ---- the grid of a sweep


class GridRow(NamedTuple):
    """The scores of an optimizer with one weight decay."""

    optimizer: str
    decay: float  # lr * weight_decay * steps
    scores: dict[float, str]  # by the learning rate as a multiple of the published one


def grid(plan: Plan, records: Records) -> list[GridRow]:
    """The rows of a sweep's table, by weight decay; without those that have no trial yet."""
    rows: dict[tuple[float, str], dict[float, str]] = {}
    for name, optimizer in plan.optimizers.items():
        for tuned in tuning.ranking(plan, records, name):
            multiple = float(f"{tuned.point['lr'] / optimizer.published['lr']:.2g}")
            level = tuning.decay_level(plan, name, tuned.point)
            shown = "diverged" if tuned.diverged else score(plan.metric, tuned.score, unit=False)
            rows.setdefault((level, name), {})[multiple] = shown
    levels = sorted(rows.items(), key=lambda item: item[0][0])
    return [GridRow(name, level, scores) for (level, name), scores in levels]


def multiples(rows: list[GridRow]) -> dict[float, str]:
    """The learning rates of these rows, rising, with the headings of their columns.

    >>> multiples([GridRow("sgd", 0.0, {3.0: "", 1.0: ""})])
    {1.0: 'lr', 3.0: '3 lr'}
    """
    values = sorted({multiple for row in rows for multiple in row.scores})
    return {x: "lr" if x == 1 else f"{x:g} lr" for x in values}
