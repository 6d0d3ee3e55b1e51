"""The figure of an analysis: norms, effective steps and scores over epochs, by weight decay."""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

from tangential_lab.reports.figures.description import (
    MARGIN,
    SECOND_HALF,
    Axis,
    Figure,
    Panel,
    Series,
    Values,
    band,
    curve_of,
    fitted,
    in_unit,
    last_values,
    metric_axis,
)
from tangential_lab.reports.figures.training import CURVES, Seeds, seeds_of
from tangential_lab.reports.wording import capital
from tangential_lab.studies import Plan
from tangential_lab.training import Record, Records


class Measurement(NamedTuple):
    """What a row of the figure shows."""

    title: str
    axis: Axis
    curve: Callable[[Record], tuple[Values, Values]]  # steps and values of a trial
    shares: tuple[float, float]  # the part of the training that decides the scale


def analysis_figure(plan: Plan, records: Records) -> Figure:
    """One row per measurement, one column per weight decay; the panels of a row have one scale."""
    columns = {"without weight decay": "undecayed", "with weight decay": "test"}
    if not plan.undecayed:  # no optimizer has a weight decay
        columns = {"without weight decay": "test"}
    trials = [seeds_of(plan, records, phase) for phase in columns.values()]
    epochs = Axis("epoch", limits=(0.0, (1 + MARGIN / 2) * plan.epochs))
    panels: list[Panel] = []
    for row in _measurements(plan):
        lines = [_lines(plan, row, seeds) for seeds in trials]
        axis = fitted(row.axis, chain(*lines), row.shares)
        if any(lines):
            panels += [
                Panel(f"{row.title}, {column}", epochs, axis, series)
                for column, series in zip(columns, lines, strict=True)
            ]
    ends = "; ".join(f"{panel.title}: {last_values(panel.series)}" for panel in panels)
    title = "Norm, effective step and score" if plan.invariant else "Score"
    note = "Lines are means over seeds; bands go from the lowest to the highest seed."
    if plan.invariant:
        note = f"Norms and effective steps are means over the scale-invariant weights. {note}"
    text = f"Over epochs; at the end: {ends}."
    return Figure("analysis", f"{title} during training", text, panels, note, len(columns))


def _measurements(plan: Plan) -> list[Measurement]:
    def of_curve(name: str) -> Measurement:
        title, axis, shares = CURVES[name]
        return Measurement(title, axis, lambda record: curve_of(record, name), shares)

    scores = lambda r: (r["scores"]["step"], in_unit(plan.metric, r["scores"]["score"]))
    return [
        of_curve("norm"),
        of_curve("effective_step"),
        Measurement(capital(plan.metric.name), metric_axis(plan.metric), scores, SECOND_HALF),
    ]


def _lines(plan: Plan, row: Measurement, seeds: Seeds) -> list[Series]:
    bands = [
        band(name, map(row.curve, records), positive=row.axis.log)
        for name, records in seeds.items()
    ]
    per_epoch = plan.steps / plan.epochs
    return [line._replace(x=[step / per_epoch for step in line.x]) for line in bands if len(line.x)]
