"""The figures of a study."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tangential_lab.reports.figures import (
    Axis,
    Figure,
    Heat,
    Panel,
    Series,
    band,
    course,
    ends,
    mean,
    metric_axis,
    shown,
    summed,
)
from tangential_lab.reports.searches import tuning
from tangential_lab.reports.standings import trials
from tangential_lab.studies.plan import Plan
from tangential_lab.training.records import Record, Records
from tangential_lab.training.task import Metric

STEP = Axis("step")
DARKEST = 0.02  # share of a heat map's values that have the darkest colour
CELLS = 60_000  # of all heat maps together: a page stays small
COLUMNS = (16, 100)  # of a heat map, at least and at most


class Curve(NamedTuple):
    """How a column of the curves is drawn."""

    title: str
    axis: str
    log: bool


CURVES = {
    "loss": Curve("Training loss", "loss", True),
    "norm": Curve("Mean weight norm", "mean norm ‖w‖", False),
    "effective_step": Curve("Effective step", "effective step ‖Δ(w/‖w‖)‖", True),
    "angle_rad": Curve("Angle per step", "angle per step, rad", True),
}
CAUSES = {
    "growth_step": "by the length of the steps",
    "growth_memory": "by momentum's memory",
    "growth_decay": "by decay",
}


def figures(plan: Plan, records: Records) -> list[Figure]:
    """Whatever the trials so far have something to show for."""
    seeds = {phase: sound(plan, records, phase) for phase in ("test", "undecayed")}
    wanted = [
        *along(plan, seeds["test"]),
        *(curve(name, seeds["test"]) for name in CURVES),
        growth(seeds["test"]),
        layers(seeds["test"]),
        *(curve(name, seeds["undecayed"], "undecayed_") for name in ("norm", "effective_step")),
        *tuning(plan, records),
    ]
    return [figure for figure in wanted if any(p.series or p.heat for p in figure.panels)]


Seeds = dict[str, list[Record]]


def sound(plan: Plan, records: Records, phase: str) -> Seeds:
    """The trials of a phase that did not diverge, by optimizer; none has an empty list."""
    found = trials(records)
    mine = {optimizer: found.get((optimizer, phase), {}).values() for optimizer in plan.optimizers}
    kept = {optimizer: [r for r in some if not r["diverged"]] for optimizer, some in mine.items()}
    return {optimizer: some for optimizer, some in kept.items() if some}


def _filled(series: Iterable[Series]) -> list[Series]:
    return [one for one in series if len(one.x)]


# ---- over steps


def along(plan: Plan, seeds: Seeds) -> list[Figure]:
    """The metric over steps, and over seconds."""
    metric = plan.metric
    taken = {optimizer: [r["scores"] for r in some] for optimizer, some in seeds.items()}
    over_steps = _filled(
        band(optimizer, [(s["step"], shown(metric, s["score"])) for s in some])
        for optimizer, some in taken.items()
    )
    over_seconds = _filled(_timed(metric, optimizer, some) for optimizer, some in taken.items())
    says = f"{metric.name} on data held out for the report; at the end {ends(over_steps)}."
    y, title = metric_axis(metric), metric.name[:1].upper() + metric.name[1:]
    return [
        Figure("score", f"{title} over steps", says, [Panel("", STEP, y, over_steps)]),
        Figure(
            "score_time",
            f"{title} over time",
            f"The same over seconds of training; at the end {ends(over_seconds)}.",
            [Panel("", Axis("training time, s"), y, over_seconds)],
        ),
    ]


def _timed(metric: Metric, optimizer: str, some: Sequence[Record]) -> Series:
    """Scores at the mean time of each evaluation."""
    count = min(len(s["step"]) for s in some)
    over_steps = band(optimizer, [(range(count), shown(metric, s["score"][:count])) for s in some])
    times = [mean([s["time_s"][i] for s in some]) for i in range(count)]
    return over_steps._replace(x=times)


def curve(name: str, seeds: Seeds, prefix: str = "") -> Figure:
    """A column of the curves over steps."""
    title, axis, log = CURVES[name]
    series = _filled(
        band(optimizer, [course(r, name) for r in some], positive=log)
        for optimizer, some in seeds.items()
    )
    says = f"{title} over steps; at the end {ends(series)}."
    return Figure(prefix + name, title, says, [Panel("", STEP, Axis(axis, log), series)])


def growth(seeds: Seeds) -> Figure:
    """The squared norm's growth, summed up and split by its causes; a panel a cause."""
    panels = [
        Panel(
            title,
            STEP,
            Axis("growth of ‖w‖², summed"),
            _filled(
                band(optimizer, [summed(r, name) for r in some])
                for optimizer, some in seeds.items()
                if any(math.isfinite(x) for r in some for x in r["curves"][name])
            ),
        )
        for name, title in CAUSES.items()
    ]
    says = "; ".join(f"{panel.title}: {ends(panel.series)}" for panel in panels if panel.series)
    kept = [panel for panel in panels if panel.series]
    note = "Of every step, the growth of ‖w‖² as a share of it, summed up; split by its causes."
    return Figure("growth", "What makes norms grow", f"Summed to the end, {says}.", kept, note)


# ---- layers


def layers(seeds: Seeds) -> Figure:
    """The effective step of every layer over steps, first seed; a panel an optimizer."""
    known = {optimizer: r["layers"] for optimizer, (r, *_) in seeds.items() if r["layers"]}
    size = sum(len(some["names"]) for some in known.values())
    columns = min(COLUMNS[1], max(COLUMNS[0], CELLS // size)) if size else 0
    heats = {optimizer: _heat(some, columns) for optimizer, some in known.items()}
    values = [x for heat in heats.values() for row in heat.values for x in row if x > 0]
    low, high = _range(values)
    x, y = STEP, Axis("layer")
    panels = [
        Panel(optimizer, x, y, heat=heat._replace(low=low, high=high))
        for optimizer, heat in heats.items()
        if values
    ]
    says = f"Effective step of every scale-invariant layer over steps, {low:.2g} to {high:.2g}."
    note = "First seed, first layer on top; one logarithmic scale of colours for all. "
    note += "The smallest 2 % share the darkest colour."
    return Figure("layers", "Effective step, layer by layer", says, panels, note)


def _heat(found: Record, columns: int) -> Heat:
    steps, rows = found["step"], found["effective_step"]
    size = max(1, math.ceil(len(steps) / columns))
    chunks = [slice(i, i + size) for i in range(0, len(steps), size)]
    across = [[_log_mean(row[i] for row in rows[c]) for c in chunks] for i in range(len(rows[0]))]
    return Heat(found["names"], [mean(steps[c]) for c in chunks], across, 0.0, 0.0)


def _range(values: Iterable[float]) -> tuple[float, float]:
    """Of colours; the last steps of a schedule that ends at 0 would take most of it."""
    rising = sorted(values) or [1.0]
    return rising[int(DARKEST * len(rising))], rising[-1]


def _log_mean(values: Iterable[float]) -> float:
    logs = [math.log(x) for x in values if math.isfinite(x) and x > 0]
    return math.exp(mean(logs)) if logs else math.nan
