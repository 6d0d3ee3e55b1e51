"""The pictures and the page of monitored runs, drawn over one another."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from tangential.monitor import Run, Verdict, advice, compare, diagnose
from tangential_lab import styles as look
from tangential_lab.reports import html
from tangential_lab.reports.figures.description import (
    BEFORE_THE_END,
    LINE_POINTS,
    Axis,
    Figure,
    Panel,
    Series,
    fitted,
    last_values,
    mean,
    summed,
    thinned,
)
from tangential_lab.reports.figures.training import CAUSES, STEP, layer_figure
from tangential_lab.reports.study import write_page
from tangential_lab.styles import LineStyle, on_light

NOTE = (
    "Lines are medians over weights; bands go from the lower to the upper quartile. The effective "
    "step is shown as an angle; below 0.5 rad the two differ by 1 % or less. Dashed: the angle at "
    "which weight decay and steps are in equilibrium."
)


def write_runs(runs: Mapping[str, Run], folder: Path) -> list[Path]:
    """Write the page and the pictures of runs into `folder`; return their paths, the page first.

    Args:
        runs: Runs by the names that they are shown with.
        folder: Folder for report.html and its figures.

    Raises:
        ValueError: a run has no values of single weights.
    """
    for name, run in runs.items():
        if not run.weights:
            raise ValueError(
                f"{name} has means over weights, but no values of single weights: log them with a "
                "sink that has weights=True"
            )
    figures = run_figures(runs)
    styles = _styles(runs, figures)
    about = [
        {"name": name, "about": _about(run), "verdicts": [_said(v, run) for v in diagnose(run)]}
        for name, run in runs.items()
    ]
    named = [replace(run, name=name) for name, run in runs.items()]
    compared = [x.text for x in compare(*named)] if len(named) == 2 else []
    text = html.render("run.html.jinja", figures, styles, runs=about, compared=compared)
    return write_page(text, figures, styles, folder)


def _said(verdict: Verdict, run: Run) -> tuple[str, str]:
    """A verdict, and what to change or ""."""
    change = advice(verdict, run)
    return verdict.text, f"To change: {change}" if change else ""


def run_figures(runs: Mapping[str, Run]) -> list[Figure]:
    """Norms, effective steps, angles and growth by cause over steps; and the layers."""
    growth = Axis("growth of ‖w‖², summed")
    panels = [
        _panel("Weight norm", Axis("norm ‖w‖"), runs, "norm"),
        _panel("Effective step", Axis("angle per step, rad", log=True), runs, "angle_rad"),
        *(_panel(f"Growth {x}", growth, runs, key, total=True) for key, x in CAUSES.items()),
    ]
    panels = [panel for panel in panels if panel.series]
    ends = "; ".join(f"{panel.title}: {last_values(panel.series)}" for panel in panels)
    training = Figure("training", "How the weights move", f"At the end: {ends}.", panels, NOTE)
    layers = layer_figure({name: [{"layers": _layers(run)}] for name, run in runs.items()})
    note = "First weight on top. All panels share one logarithmic colour scale; the smallest 2 % "
    layers = layers._replace(note=note + "of the values have the darkest colour.")
    return [figure for figure in (training, layers) if figure.panels]


def _styles(runs: Iterable[str], figures: Iterable[Figure]) -> dict[str, LineStyle]:
    """The styles of the lines that the figures have; a run and its equilibrium share a colour."""
    drawn = {line.name for f in figures for panel in f.panels for line in panel.series}
    styles = {}
    for number, name in enumerate(runs):
        style = LineStyle(on_light(look.RUNS[number % len(look.RUNS)]), False, number)
        styles |= {name: style}
        if _equilibrium(name) in drawn:
            styles |= {_equilibrium(name): style._replace(dashed=True)}
    return styles


def _equilibrium(name: str) -> str:
    return f"{name}, equilibrium"


def _shown(run: Run) -> list[str]:
    """The scale-invariant weights; all weights if none is known to be scale-invariant."""
    return run.invariant or [*run.weights]


def _about(run: Run) -> str:
    count, total = len(run.invariant), len(run.weights)
    if not count:
        return f"{run.length:,} steps; all {total:,} weights, none of them known scale-invariant."
    known = "the audit proved" if run.audited else "the gate decided"
    return f"{run.length:,} steps; {count:,} of {total:,} weights, scale-invariant as {known}."


# ---- lines


def _panel(
    title: str, axis: Axis, runs: Mapping[str, Run], column: str, *, total: bool = False
) -> Panel:
    """A column over steps, one line per run; `total` sums it up over the steps."""
    lines = [_line(name, run, column, log=axis.log, total=total) for name, run in runs.items()]
    if column == "angle_rad":
        lines += [
            _line(_equilibrium(name), run, "equilibrium_rad", log=True)._replace(low=(), high=())
            for name, run in runs.items()
        ]
    lines = [line for line in lines if len(line.x)]
    return Panel(title, STEP, fitted(axis, lines, BEFORE_THE_END) if axis.log else axis, lines)


def _line(name: str, run: Run, column: str, *, log: bool, total: bool = False) -> Series:
    """Quartiles over the weights, with neighbouring steps taken together where there are many."""
    at: dict[float, list[float]] = defaultdict(list)
    for weight in _shown(run):
        logged = run.weights[weight]
        if total and logged.has(column):
            steps, values = summed(logged.steps, logged[column])
        else:
            steps, values = logged.steps, logged[column]
        for step, value in zip(steps, values, strict=True):
            if math.isfinite(value) and (value > 0 or not log):
                at[step].append(value)
    steps = sorted(at)
    chunks = [steps[chunk] for chunk in thinned(len(steps), LINE_POINTS)]
    quartiles = [_quartiles([x for step in chunk for x in at[step]]) for chunk in chunks]
    low, middle, high = ([q[i] for q in quartiles] for i in range(3))
    x, several = [mean(chunk) for chunk in chunks], len(_shown(run)) > 1
    return Series(name, x, middle, low if several else (), high if several else ())


def _quartiles(values: list[float]) -> list[float]:
    return quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values


# ---- layers


def _layers(run: Run) -> dict[str, Any] | None:
    """The effective step of every weight, one row per step; NaN where it was not logged."""
    names = [name for name in _shown(run) if run.weights[name].has("effective_step")]
    if not names:
        return None
    places = {step: i for i, step in enumerate(run.steps)}
    rows = [[math.nan] * len(names) for _ in run.steps]
    for j, name in enumerate(names):
        log = run.weights[name]
        for step, value in zip(log.steps, log["effective_step"], strict=True):
            rows[places[step]][j] = value
    return {"names": names, "step": run.steps, "effective_step": rows}
