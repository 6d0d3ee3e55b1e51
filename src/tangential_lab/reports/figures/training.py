"""The figures of a study: scores, curves, growth of the norms, and layers of its test trials."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tangential_lab.reports.figures.description import (
    BEFORE_THE_END,
    SECOND_HALF,
    WHOLE,
    Axis,
    Figure,
    Heat,
    Panel,
    Series,
    band,
    curve_of,
    fitted,
    in_unit,
    last_values,
    mean,
    metric_axis,
    summed,
    thinned,
)
from tangential_lab.reports.figures.tuning import tuning_figures
from tangential_lab.reports.standings import finished_seeds, trials_of
from tangential_lab.reports.wording import capital
from tangential_lab.studies import Plan
from tangential_lab.styles import NAMED_LAYERS
from tangential_lab.training import Metric, Record, Records

STEP, SECONDS = Axis("step"), Axis("training time, s")
DARKEST_SHARE = 0.02  # share of a heat map's values with the darkest colour
CELLS = 60_000  # cells of all heat maps together, to keep a page small
LEAST_COLUMNS, MOST_COLUMNS = 16, 100  # columns of a heat map

Seeds = dict[str, list[Record]]  # by optimizer, at least one each


class Curve(NamedTuple):
    """How a column of the curves is drawn."""

    title: str
    axis: Axis
    shares: tuple[float, float] = WHOLE  # the part of the training that decides the scale


CURVES = {
    "loss": Curve("Training loss", Axis("loss", log=True)),
    "norm": Curve("Mean weight norm", Axis("mean norm ‖w‖")),
    "effective_step": Curve(
        "Effective step", Axis("effective step ‖Δ(w/‖w‖)‖", log=True), BEFORE_THE_END
    ),
}
CAUSES = {
    "growth_step": "by the length of the steps",
    "growth_memory": "by momentum",
    "growth_decay": "by weight decay",
}


def study_figures(plan: Plan, records: Records) -> list[Figure]:
    """All figures for which these trials have data."""
    test, undecayed = (seeds_of(plan, records, phase) for phase in ("test", "undecayed"))
    figures = [
        *score_figures(plan.metric, test),
        *(curve_figure(name, test) for name in CURVES),
        growth_figure(test),
        layer_figure(test),
        *(curve_figure(name, undecayed, "undecayed_") for name in ("norm", "effective_step")),
        *tuning_figures(plan, records),
    ]
    return [figure for figure in figures if any(p.series or p.heat for p in figure.panels)]


def seeds_of(plan: Plan, records: Records, phase: str) -> Seeds:
    """The trials of a phase that did not diverge, for optimizers that have any."""
    trials = trials_of(plan, records)
    seeds = {name: [*finished_seeds(trials, name, phase).values()] for name in plan.optimizers}
    return {name: records for name, records in seeds.items() if records}


# ---- over steps


def score_figures(metric: Metric, seeds: Seeds) -> list[Figure]:
    """The metric over steps, and over seconds."""
    over_steps = _drawable(
        band(name, [(r["scores"]["step"], in_unit(metric, r["scores"]["score"])) for r in records])
        for name, records in seeds.items()
    )
    over_seconds = _drawable(_timed(metric, name, records) for name, records in seeds.items())
    if all(len(line.x) < 2 for line in over_steps):
        return []  # the score at the end is in the tables
    y, title = metric_axis(metric), capital(metric.name)
    return [
        Figure(
            "score",
            f"{title} over steps",
            f"{metric.name} on the test split; at the end {last_values(over_steps)}.",
            [Panel("", STEP, fitted(y, over_steps, SECOND_HALF), over_steps)],
        ),
        Figure(
            "score_time",
            f"{title} over time",
            f"The same over seconds of training; at the end {last_values(over_seconds)}.",
            [Panel("", SECONDS, fitted(y, over_seconds, SECOND_HALF), over_seconds)],
        ),
    ]


def _timed(metric: Metric, name: str, records: Sequence[Record]) -> Series:
    """Scores at the mean time of each evaluation."""
    scores = [record["scores"] for record in records]
    count = min(len(s["step"]) for s in scores)
    line = band(name, [(range(count), in_unit(metric, s["score"][:count])) for s in scores])
    return line._replace(x=[mean([s["time_s"][i] for s in scores]) for i in range(count)])


def curve_figure(column: str, seeds: Seeds, prefix: str = "") -> Figure:
    """A column of the curves over steps."""
    title, axis, shares = CURVES[column]
    series = _drawable(
        band(name, [curve_of(r, column) for r in records], positive=axis.log)
        for name, records in seeds.items()
    )
    description = f"{title} over steps; at the end {last_values(series)}."
    panel = Panel("", STEP, fitted(axis, series, shares), series)
    return Figure(prefix + column, title, description, [panel])


def growth_figure(seeds: Seeds) -> Figure:
    """The growth of the squared norm, summed up: one panel per cause."""
    panels = [
        Panel(title, STEP, Axis("growth of ‖w‖², summed"), _growth(column, seeds))
        for column, title in CAUSES.items()
    ]
    panels = [panel for panel in panels if panel.series]
    ends = "; ".join(f"{panel.title}: {last_values(panel.series)}" for panel in panels)
    note = "The growth of ‖w‖² at each step, relative to ‖w‖², summed over the steps by cause."
    return Figure("growth", "What makes norms grow", f"Sum at the end: {ends}.", panels, note)


def _growth(column: str, seeds: Seeds) -> list[Series]:
    known = {
        name: records
        for name, records in seeds.items()
        if any(math.isfinite(x) for record in records for x in record["curves"][column])
    }
    return _drawable(
        band(k, [summed(*curve_of(r, column)) for r in some]) for k, some in known.items()
    )


def _drawable(series: Iterable[Series]) -> list[Series]:
    return [line for line in series if len(line.x)]


# ---- layers


def layer_figure(seeds: Seeds) -> Figure:
    """The effective step of every layer over steps, of the first seed: one panel per optimizer."""
    known = {name: r["layers"] for name, (r, *_) in seeds.items() if r["layers"]}
    size = sum(len(layers["names"]) for layers in known.values())
    columns = min(MOST_COLUMNS, max(LEAST_COLUMNS, CELLS // size)) if size else 0
    heats = {name: _heat(layers, columns) for name, layers in known.items()}
    values = [x for heat in heats.values() for row in heat.values for x in row if x > 0]
    low, high = _colour_range(values)
    panels = [
        Panel(name, STEP, Axis("layer"), heat=heat._replace(low=low, high=high))
        for name, heat in heats.items()
        if values
    ]
    text = f"Effective step of every scale-invariant layer over steps, {low:.2g} to {high:.2g}."
    note = "First seed, first layer on top. All panels share one logarithmic colour scale; "
    note += "the smallest 2 % of the values have the darkest colour."
    return Figure("layers", "Effective step, layer by layer", text, panels, note)


def _heat(layers: Record, columns: int) -> Heat:
    steps, rows, names = layers["step"], layers["effective_step"], layers["names"]
    chunks = thinned(len(steps), columns)
    values = [[_log_mean(row[i] for row in rows[c]) for c in chunks] for i in range(len(names))]
    labels = [name.removesuffix(".weight") for name in names] if len(names) <= NAMED_LAYERS else ()
    return Heat(names, [mean(steps[c]) for c in chunks], values, 0.0, 0.0, labels)


def _colour_range(values: Iterable[float]) -> tuple[float, float]:
    """The range of colours. The full range would mostly show the last steps before lr is 0."""
    rising = sorted(values) or [1.0]
    return rising[int(DARKEST_SHARE * len(rising))], rising[-1]


def _log_mean(values: Iterable[float]) -> float:
    logs = [math.log(x) for x in values if math.isfinite(x) and x > 0]
    return math.exp(mean(logs)) if logs else math.nan
