"""Several studies seen together: who is ahead where, and who is fast how often."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tangential.lab import sentences
from tangential.lab.figures import Axis, Figure, Panel, Series
from tangential.lab.names import label
from tangential.lab.plan import Plan
from tangential.lab.standings import Row
from tangential.lab.statistics import profile
from tangential.lab.task import Metric


class Study(NamedTuple):
    """What is known of a study."""

    name: str
    metric: Metric
    rows: list[Row]

    def row(self, rival: str) -> Row | None:
        """That of a rival, where it took part."""
        return next((row for row in self.rows if row.rival == rival), None)


class Panorama(NamedTuple):
    """Several studies."""

    studies: list[Study]
    rivals: list[str]
    findings: list[str]
    figures: list[Figure]


def panorama(done: Sequence[tuple[Plan, list[Row]]]) -> Panorama:
    """Put finished studies together: plans with their rows."""
    studies = [
        Study(name, plan.metric, rows)
        for name, (plan, rows) in zip(_names([plan for plan, _ in done]), done, strict=True)
    ]
    rivals = list(dict.fromkeys(row.rival for study in studies for row in study.rows))
    pairs = dict.fromkeys(
        (row.rival, row.against.baseline) for s in studies for row in s.rows if row.against
    )
    findings = [_finding(studies, *pair) for pair in pairs]
    figure = _profile(studies, rivals)
    return Panorama(studies, rivals, findings, [figure] if figure else [])


def _names(plans: Sequence[Plan]) -> list[str]:
    """Tasks with their options; a number where that is the same twice."""
    plain = [
        ", ".join([plan.task, *(f"{k} {v}" for k, v in plan.options.items())]) for plan in plans
    ]
    return [
        name if plain.count(name) == 1 else f"{name} ({plain[: i + 1].count(name)})"
        for i, name in enumerate(plain)
    ]


def _finding(studies: Sequence[Study], rival: str, baseline: str) -> str:
    """How often ahead, behind and neither."""
    sides = []
    for study in studies:
        row = study.row(rival)
        if row and row.against and row.against.baseline == baseline:
            sides.append(sentences.side(study.metric, row.against))
    words = {"even": "no difference detected", "untold": "one seed, which cannot tell,"}
    told = [s for s in sentences.WORDS if s in sides]
    first, *rest = (f"{words.get(side, side)} in {sides.count(side)}" for side in told)
    among = f"{first} of {len(sides)} {'studies' if sides[1:] else 'study'}"
    return f"{label(rival)} against {label(baseline)}: {', '.join([among, *rest])}."


def _profile(studies: Sequence[Study], rivals: Sequence[str]) -> Figure | None:
    """Steps to each study's target; of the rivals that all studies have."""
    common = [rival for rival in rivals if all(study.row(rival) for study in studies)]
    costs = {rival: [steps_to_target(study.row(rival)) for study in studies] for rival in common}
    if (
        not studies
        or len(common) < 2
        or all(math.isnan(x) for some in costs.values() for x in some)
    ):
        return None
    shares = profile(costs)
    last = 1.05 * max(tau for points in shares.values() for tau, _ in points)
    series = [
        Series(rival, [*(tau for tau, _ in points), last], [*(s for _, s in points), points[-1][1]])
        for rival, points in shares.items()
    ]
    says = "Share of studies solved in at most as many steps as the fastest: " + ", ".join(
        f"{label(rival)} {100 * points[0][1]:.0f} %" for rival, points in shares.items()
    )
    left = [rival for rival in rivals if rival not in common]
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
