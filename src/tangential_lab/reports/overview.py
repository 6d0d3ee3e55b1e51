"""Several studies on one page: where each optimizer is ahead, and how fast it is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tangential_lab.names import label
from tangential_lab.reports import html, tables, verdicts
from tangential_lab.reports.figures import Axis, Figure, Panel, Series
from tangential_lab.reports.rows import Row
from tangential_lab.reports.study import Report, adjust_jointly, write_page
from tangential_lab.statistics import profile
from tangential_lab.studies import Plan
from tangential_lab.training import Metric


class Entry(NamedTuple):
    """A study on the page."""

    name: str
    metric: Metric
    rows: list[Row]

    def row(self, optimizer: str) -> Row | None:
        """The row of an optimizer, if it takes part."""
        return next((row for row in self.rows if row.optimizer == optimizer), None)


def write_overview(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write a page over several studies, its pictures and its table; return their paths.

    Args:
        reports: Reports of the studies; of unfinished studies, the page lists only the names.
        folder: Folder for report.html and its figures.
    """
    done = adjust_jointly([r for r in reports if r.complete])
    names = _names([report.plan for report in done])
    entries = [Entry(k, r.plan.metric, r.rows) for k, r in zip(names, done, strict=True)]
    optimizers = list(dict.fromkeys(row.optimizer for entry in entries for row in entry.rows))
    figures = _profile(entries, optimizers)
    styles = {name: style for r in reversed(reports) for name, style in r.styles.items()}
    text = html.render(
        "overview.html.jinja",
        figures,
        styles,
        entries=entries,
        optimizers=optimizers,
        findings=_findings(entries),
        unfinished=[report.plan.title for report in reports if not report.complete],
        untuned=[name for name, report in zip(names, done, strict=True) if report.untuned],
    )
    paths = write_page(text, figures, styles, folder)
    rows = [cells for entry in entries for row in entry.rows for cells in _cells(entry, row)]
    return [*paths, *tables.write_rows(rows, folder / "studies")]


def _names(plans: Sequence[Plan]) -> list[str]:
    """Tasks with their options, with a number if two studies have the same."""
    plain = [
        ", ".join([plan.title, *(f"{k} {v}" for k, v in plan.options.items())]) for plan in plans
    ]
    return [
        name if plain.count(name) == 1 else f"{name} ({plain[: i + 1].count(name)})"
        for i, name in enumerate(plain)
    ]


def _cells(entry: Entry, row: Row) -> list[dict[str, Any]]:
    """An optimizer in a study, once for each of its comparisons."""
    cells = {"study": entry.name, "optimizer": row.optimizer, "metric": entry.metric.name}
    score = {"score": row.score.mean, "score_low": row.score.low, "score_high": row.score.high}
    cells |= score | {"steps_to_target": row.steps.mean if row.steps else None}
    names = ("difference", "difference_low", "difference_high")
    pairs = [
        {"minus": pair.baseline, **dict(zip(names, pair.difference[:3], strict=True))}
        for pair in row.comparisons
    ]
    return [cells | pair for pair in pairs or [{}]]


# ---- which optimizer is ahead


def _findings(entries: Sequence[Entry]) -> list[str]:
    pairs = dict.fromkeys(
        (row.optimizer, pair.baseline)
        for e in entries
        for row in e.rows
        for pair in row.comparisons
    )
    return [_finding(entries, *pair) for pair in pairs]


def _finding(entries: Sequence[Entry], optimizer: str, baseline: str) -> str:
    """In how many studies the optimizer is ahead, behind, or neither."""
    sides = []
    for entry in entries:
        row = entry.row(optimizer)
        if row and (against := row.against(baseline)):
            sides.append(verdicts.side(entry.metric, against))
    words = {"even": "no difference detected", "unknown": "too few seeds (one)"}
    counts = {words.get(s, s): sides.count(s) for s in verdicts.PHRASES if s in sides}
    first, *rest = (f"{phrase} in {count}" for phrase, count in counts.items())
    of_all = f"{first} of {len(sides)} {'studies' if len(sides) > 1 else 'study'}"
    return f"{label(optimizer)} against {label(baseline)}: {', '.join([of_all, *rest])}."


# ---- which optimizer is fast


def _profile(entries: Sequence[Entry], optimizers: Sequence[str]) -> list[Figure]:
    """Steps to each study's target, for the optimizers that all studies have; or no figure."""
    common = [name for name in optimizers if all(entry.row(name) for entry in entries)]
    costs = {name: [steps_to_target(entry.row(name)) for entry in entries] for name in common}
    if len(common) < 2 or all(math.isnan(x) for some in costs.values() for x in some):
        return []
    shares = profile(costs)
    last = 1.05 * max(tau for points in shares.values() for tau, _ in points)
    series = [
        Series(name, [*(tau for tau, _ in points), last], [*(s for _, s in points), points[-1][1]])
        for name, points in shares.items()
    ]
    fastest = [f"{label(name)} {100 * points[0][1]:.0f} %" for name, points in shares.items()]
    missing = [label(name) for name in optimizers if name not in common]
    note = "Solved: more than half of the seeds reached the target; the median seed counts."
    note += (
        f" Left out, because they are not in every study: {', '.join(missing)}." if missing else ""
    )
    text = f"Share of studies in which no optimizer needs fewer steps: {', '.join(fastest)}."
    x, y = Axis("steps to the target, relative to the fastest"), Axis("share of studies")
    panel = Panel("", x, y, series, kind="stairs")
    return [Figure("profile", "Performance profile", text, [panel], note)]


def steps_to_target(row: Row | None) -> float:
    """The median over seeds; NaN if half of the seeds or more did not reach the target."""
    median = row.steps.median if row and row.steps else math.inf
    return median if median < math.inf else math.nan
