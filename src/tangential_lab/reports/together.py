"""Several studies seen together: who is ahead where, and who is fast how often."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tangential_lab.names import label
from tangential_lab.reports import sentences
from tangential_lab.reports.figures import Axis, Figure, Panel, Series
from tangential_lab.reports.standings import Row
from tangential_lab.reports.statistics import profile
from tangential_lab.studies.plan import Plan
from tangential_lab.training.task import Metric


class Study(NamedTuple):
    """What is known of a study."""

    name: str
    metric: Metric
    rows: list[Row]

    def row(self, optimizer: str) -> Row | None:
        """That of an optimizer, where it took part."""
        return next((row for row in self.rows if row.optimizer == optimizer), None)


class Panorama(NamedTuple):
    """Several studies."""

    studies: list[Study]
    optimizers: list[str]
    findings: list[str]
    figures: list[Figure]


def panorama(done: Sequence[tuple[Plan, list[Row]]]) -> Panorama:
    """Put finished studies together: plans with their rows."""
    studies = [
        Study(name, plan.metric, rows)
        for name, (plan, rows) in zip(_names([plan for plan, _ in done]), done, strict=True)
    ]
    optimizers = list(dict.fromkeys(row.optimizer for study in studies for row in study.rows))
    pairs = dict.fromkeys(
        (row.optimizer, row.against.baseline) for s in studies for row in s.rows if row.against
    )
    findings = [_finding(studies, *pair) for pair in pairs]
    figure = _profile(studies, optimizers)
    return Panorama(studies, optimizers, findings, [figure] if figure else [])


def _names(plans: Sequence[Plan]) -> list[str]:
    """Tasks with their options; a number where that is the same twice."""
    plain = [
        ", ".join([plan.task, *(f"{k} {v}" for k, v in plan.options.items())]) for plan in plans
    ]
    return [
        name if plain.count(name) == 1 else f"{name} ({plain[: i + 1].count(name)})"
        for i, name in enumerate(plain)
    ]


def _finding(studies: Sequence[Study], optimizer: str, baseline: str) -> str:
    """How often ahead, behind and neither."""
    sides = []
    for study in studies:
        row = study.row(optimizer)
        if row and row.against and row.against.baseline == baseline:
            sides.append(sentences.side(study.metric, row.against))
    words = {"even": "no difference detected", "untold": "one seed, which cannot tell,"}
    told = [s for s in sentences.WORDS if s in sides]
    first, *rest = (f"{words.get(side, side)} in {sides.count(side)}" for side in told)
    among = f"{first} of {len(sides)} {'studies' if sides[1:] else 'study'}"
    return f"{label(optimizer)} against {label(baseline)}: {', '.join([among, *rest])}."


def _profile(studies: Sequence[Study], optimizers: Sequence[str]) -> Figure | None:
    """Steps to each study's target; of the optimizers that all studies have."""
    common = [
        optimizer for optimizer in optimizers if all(study.row(optimizer) for study in studies)
    ]
    costs = {
        optimizer: [steps_to_target(study.row(optimizer)) for study in studies]
        for optimizer in common
    }
    if (
        not studies
        or len(common) < 2
        or all(math.isnan(x) for some in costs.values() for x in some)
    ):
        return None
    shares = profile(costs)
    last = 1.05 * max(tau for points in shares.values() for tau, _ in points)
    series = [
        Series(
            optimizer, [*(tau for tau, _ in points), last], [*(s for _, s in points), points[-1][1]]
        )
        for optimizer, points in shares.items()
    ]
    says = "Share of studies solved in at most as many steps as the fastest: " + ", ".join(
        f"{label(optimizer)} {100 * points[0][1]:.0f} %" for optimizer, points in shares.items()
    )
    left = [optimizer for optimizer in optimizers if optimizer not in common]
    note = "Solved: more than half of the seeds reached the target; the median seed counts."
    note += f" Left out, because not in every study: {', '.join(map(label, left))}." if left else ""
    x, y = (
        Axis("steps to the target, relative to the fastest"),
        Axis("share of studies"),
    )
    panel = Panel("", x, y, series, kind="stairs")
    return Figure("profile", "Performance profile", f"{says}.", [panel], note)


def steps_to_target(row: Row | None) -> float:
    """NaN where half of the seeds or more did not get to the target: a mean would flatter them."""
    median = row.steps.median if row and row.steps else math.inf
    return median if median < math.inf else math.nan
