"""Tables, sentences, figures and files of a finished study."""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tangential.lab.rivals import RIVALS, SPACE
from tangential.lab.statistics import Interval, finding, interval, paired
from tangential.lab.study import Plan, Record, Records, aside
from tangential.lab.task import CURVES, Spec, Task

FIGURES = {
    "norm": ("Mean norm of the scale-invariant weights", "‖w‖", "linear"),
    "effective_step": ("Mean effective step", "turn of w/‖w‖ per step", "log"),
    "loss": ("Training loss, batch by batch", "loss", "log"),
    "score": ("Score on the report split", "{metric}", "linear"),
}
LAYOUT = {
    "template": "plotly_white",
    "height": 380,
    "margin": {"l": 70, "r": 20, "t": 50, "b": 50},
    "legend": {"orientation": "h", "y": -0.2},
    "hovermode": "x unified",
    "font": {"family": "system-ui, sans-serif", "size": 13},
}


class Row(NamedTuple):
    """One rival in one phase: its settings and what its seeds gave, paired with its baseline."""

    rival: str
    lr: float
    weight_decay: float
    score: Interval
    difference: Interval | None
    norm: Interval
    effective_step: Interval
    step_s: float
    optimizer_s: float
    diverged: int


class Report(NamedTuple):
    """A finished study: a row a rival, at its tuned point and for the mechanism; what was seen."""

    plan: Plan
    rows: list[Row]
    mechanism: list[Row]
    findings: list[str]
    records: Records


def report(task: Task, plan: Plan, records: Records) -> Report:
    """Sum up the trials of a study."""
    rows, mechanism = _rows(plan, records, "report"), _rows(plan, records, "mechanism")
    findings = [
        *(_metric_finding(task, plan, row) for row in rows if row.difference),
        *(_mechanism_finding(plan, row, mechanism) for row in mechanism if row.difference),
    ]
    return Report(plan, rows, mechanism, findings, records)


def seeds_of(rival: str, phase: str, records: Records) -> list[Record]:
    """The trials of a rival in a phase, in the order of their seeds."""
    mine = [
        record for spec, record in records.items() if (spec.rival, spec.phase) == (rival, phase)
    ]
    return sorted(mine, key=lambda record: record["seed"])


def _rows(plan: Plan, records: Records, phase: str) -> list[Row]:
    return [_row(rival, plan.baseline(rival), records, phase) for rival in plan.rivals]


def _row(rival: str, baseline: str | None, records: Records, phase: str) -> Row:
    def column(name: str, of: str = rival) -> list[float]:
        return [record[name] for record in seeds_of(of, phase, records)]

    return Row(
        rival=rival,
        lr=column("lr")[0],
        weight_decay=column("weight_decay")[0],
        score=interval(column("score")),
        difference=paired(column("score"), column("score", baseline)) if baseline else None,
        norm=interval(column("norm")),
        effective_step=interval(column("effective_step")),
        step_s=interval(column("step_s")).mean,
        optimizer_s=interval(column("optimizer_s")).mean,
        diverged=sum(map(bool, column("diverged"))),
    )


def _metric_finding(task: Task, plan: Plan, row: Row) -> str:
    assert row.difference is not None
    return f"{finding(row.rival, str(plan.baseline(row.rival)), task.metric, row.difference)}."


def _mechanism_finding(plan: Plan, row: Row, rows: list[Row]) -> str:
    other = next(r for r in rows if r.rival == plan.baseline(row.rival))
    return (
        f"At the same lr {row.lr:g} without decay: {other.rival}'s weights end at norm "
        f"{other.norm.mean:.2f}, {row.rival}'s at {row.norm.mean:.2f}, and its mean effective step "
        f"is {row.effective_step.mean / other.effective_step.mean:.2f} times {other.rival}'s."
    )


def write(task: Task, result: Report, folder: Path) -> list[Path]:
    """Write report.html, runs.csv and curves.csv into `folder`; return their paths."""
    pages = Environment(loader=PackageLoader("tangential.lab", "."), autoescape=True)
    page, runs, curves = (folder / name for name in ("report.html", "runs.csv", "curves.csv"))
    with aside(page) as file:
        file.write(pages.get_template("report.html.jinja").render(_context(task, result)))
    with aside(runs) as file:
        csv.writer(file).writerows([RUN_COLUMNS, *map(_run, result.records.values())])
    with aside(curves) as file:
        csv.writer(file).writerows([CURVE_COLUMNS, *_points(result)])
    return [page, runs, curves]


def _context(task: Task, result: Report) -> dict[str, Any]:
    return {
        "task": task,
        "result": result,
        "rivals": RIVALS,
        "space": SPACE,
        "figures": [_figure(name, "report", task.metric, result) for name in FIGURES],
        "mechanism": [
            _figure(name, "mechanism", task.metric, result) for name in ("norm", "effective_step")
        ],
        "plotlyjs": Markup(get_plotlyjs()),
        "provenance": next(iter(result.records.values()))["provenance"],
        "steps": max(r["curves"]["step"][-1] for r in result.records.values()) + 1,
    }


def _figure(name: str, phase: str, metric: str, result: Report) -> Markup:
    """As JSON: a line a rival, the mean over seeds, in a band from the lowest to the highest."""
    title, axis, scale = FIGURES[name]
    figure = go.Figure()
    for rival in result.plan.rivals:
        runs = [record["curves"] for record in seeds_of(rival, phase, result.records)]
        steps = runs[0]["step"]
        points = list(zip(*(run[name] for run in runs), strict=True))
        low, high = [min(p) for p in points], [max(p) for p in points]
        colour = RIVALS[rival].colour
        pale = f"rgba({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))}, 0.15)"
        shared = {"legendgroup": rival, "hoverinfo": "skip", "showlegend": False, "mode": "lines"}
        edge = {"width": 0, "color": colour}
        figure.add_scatter(x=steps, y=high, line=edge, **shared)
        figure.add_scatter(x=steps, y=low, line=edge, fill="tonexty", fillcolor=pale, **shared)
        mean = [math.fsum(p) / len(p) for p in points]
        dash = "solid" if RIVALS[rival].baseline else "dot"
        line = {"color": colour, "width": 2, "dash": dash}
        figure.add_scatter(x=steps, y=mean, name=rival, legendgroup=rival, mode="lines", line=line)
    figure.update_layout(title=title, **LAYOUT)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=axis.format(metric=metric), type=scale, exponentformat="power")
    return Markup(str(figure.to_json()).replace("<", r"\u003c"))


CURVE_COLUMNS = ("rival", "phase", "seed", "lr", "weight_decay", *CURVES)
RUN_COLUMNS = (
    *Spec._fields,
    *("score", "loss", "diverged", "norm", "effective_step", "step_s", "optimizer_s"),
    *("versions", "machine", "command", "time"),
)


def _run(record: Record) -> list[Any]:
    flat = record | record["provenance"]
    flat["versions"] = json.dumps(flat["versions"])
    return [flat[name] for name in RUN_COLUMNS]


def _points(result: Report) -> Iterable[list[Any]]:
    for spec, record in result.records.items():
        trial = [spec.rival, spec.phase, spec.seed, spec.lr, spec.weight_decay]
        for values in zip(*(record["curves"][name] for name in CURVES), strict=True):
            yield [*trial, *values]
