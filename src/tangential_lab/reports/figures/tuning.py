"""The figures of the search: every tuning trial, and what a smaller budget would have found."""

import math
from collections.abc import Callable, Iterable
from itertools import compress

from tangential_lab.names import label
from tangential_lab.reports.figures.description import (
    Axis,
    Figure,
    Panel,
    Series,
    fitted,
    in_unit,
    last_values,
    mean,
    metric_axis,
)
from tangential_lab.reports.wording import capital, score, settings
from tangential_lab.statistics import best_of_k
from tangential_lab.studies import Plan, tuning
from tangential_lab.studies.tuning import Tuned
from tangential_lab.training import Metric, Record, Records, Spec

EDGE = 0.02  # distance of diverged trials from the worst end of an axis, as a share of its length


def tuning_figures(plan: Plan, records: Records) -> list[Figure]:
    """The score over settings; on a grid as curves, over the rotation too; the best of k trials."""
    tried: dict[str, Records] = {name: {} for name in plan.optimizers}
    for spec, record in records.items():
        if spec.phase == "tune" and spec.optimizer in tried:
            tried[spec.optimizer][spec] = record
    tried = {name: trials for name, trials in tried.items() if trials}
    if tuning.is_grid(plan):
        return [_over_rates(plan, tried), _over_rotation(plan, tried), _over_decay(plan, tried)]
    return [_all_trials(plan, tried), _budget(plan, tried)]


def _over_rates(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The score over the learning rate: one panel per weight decay."""
    levels: dict[float, dict[str, list[Tuned]]] = {}
    for name in tried:
        for point in tuning.ranking(plan, tried[name], name):
            level = tuning.decay_level(plan, name, point.point)
            levels.setdefault(level, {}).setdefault(name, []).append(point)
    panels = [
        Panel(
            _decay_title(level),
            Axis("learning rate", log=True),
            metric_axis(plan.metric),
            [_curve(plan, name, points, _rate) for name, points in of_level.items()],
        )
        for level, of_level in sorted(levels.items())
    ]
    text = f"{capital(plan.metric.name)} over the learning rate, for each weight decay."
    note = "Bands go from the lowest to the highest seed."
    return _figure(plan, "rates", "Score over the learning rate", text, panels, note)


def _over_rotation(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The score of every point over the angle by which its weights turn per step."""
    series = [
        _curve(plan, name, [t for t in tuning.ranking(plan, trials, name) if _angle(t)], _angle)
        for name, trials in tried.items()
    ]
    series = [one for one in series if len(one.x)]
    axis = Axis("mean angle per step, rad", log=True)
    panel = Panel("", axis, metric_axis(plan.metric), series, kind="points")
    text = f"{capital(plan.metric.name)} of every point over the mean angle per step."
    note = (
        "One mark per point of the grid: the mean over its seeds, over all scale-invariant weights."
    )
    return _figure(plan, "rotation", "Score over the rotation", text, [panel], note)


def _over_decay(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The score at the best learning rate of every weight decay."""
    series = []
    for name, trials in tried.items():
        best: dict[float, Tuned] = {}
        for point in tuning.ranking(plan, trials, name):
            best.setdefault(tuning.decay_level(plan, name, point.point), point)
        level = lambda tuned, name=name: tuning.decay_level(plan, name, tuned.point)
        series.append(_curve(plan, name, list(best.values()), level))
    axis = Axis("decay over the run: lr × weight decay × steps")
    panel = Panel("", axis, metric_axis(plan.metric), series)
    text = f"{capital(plan.metric.name)} at the best learning rate of every weight decay."
    return _figure(plan, "decays", "Score over the weight decay", text, [panel], text)


def _curve(
    plan: Plan, name: str, points: Iterable[Tuned], position: Callable[[Tuned], float]
) -> Series:
    """Mean scores of points with the lowest and the highest seed, in the order of a position."""
    ordered = sorted(points, key=position)
    scores = [in_unit(plan.metric, [r["score"] for r in point.records]) for point in ordered]
    several = any(len(some) > 1 for some in scores)
    return Series(
        name,
        [position(point) for point in ordered],
        [mean(some) for some in scores],
        [min(some) for some in scores] if several else (),
        [max(some) for some in scores] if several else (),
        texts=[f"{label(name)}: {settings(point.point)}" for point in ordered],
        diverged=[i for i, point in enumerate(ordered) if point.diverged],
    )


def _figure(plan: Plan, key: str, title: str, text: str, panels: list[Panel], note: str) -> Figure:
    """A figure with one scale, which shows all that did not diverge; the rest lies at its end."""
    sound = [_sound(line) for panel in panels for line in panel.series]
    axis = fitted(metric_axis(plan.metric), sound)
    low, high = axis.limits or (0.0, 0.0)
    worst = low + (EDGE if plan.metric.higher_is_better else 1 - EDGE) * (high - low)

    def moved(line: Series) -> Series:
        return line._replace(y=[worst if i in line.diverged else y for i, y in enumerate(line.y)])

    if axis.limits and any(line.diverged for panel in panels for line in panel.series):
        panels = [panel._replace(series=[*map(moved, panel.series)]) for panel in panels]
        note += " Trials that diverged lie at the worst end of the axis."
    return Figure(key, title, text, [panel._replace(y=axis) for panel in panels], note)


def _sound(line: Series) -> Series:
    """The points of a line that did not diverge."""
    known = [i not in line.diverged for i in range(len(line.x))]
    return line._replace(
        **{k: [*compress(getattr(line, k), known)] for k in ("x", "y", "low", "high")}
    )


def _rate(tuned: Tuned) -> float:
    return tuned.point["lr"]


def _angle(tuned: Tuned) -> float:
    """The mean angle per step over the run and the seeds; 0 if it is not known."""
    angles = [x for r in tuned.records for x in r["curves"]["angle_rad"] if math.isfinite(x)]
    return mean(angles) if angles else 0.0


def _decay_title(level: float) -> str:
    return f"decay over the run {level:g}" if level else "no weight decay"


def _all_trials(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The score over each setting: one panel per setting."""
    specs = [spec for trials in tried.values() for spec in trials]
    settings = dict.fromkeys(setting for spec in specs for setting in spec.values)
    y = metric_axis(plan.metric)
    panels = [
        Panel("", Axis(setting, log=True), y, _points(plan, tried, setting), kind="points")
        for setting in settings
    ]
    text = f"{len(specs)} tuning trials: {plan.metric.name} over {', '.join(settings)}."
    note = "Ring: the best trial of an optimizer. Cross: a trial that diverged."
    return _figure(plan, "tuning", "Every tuning trial", text, panels, note)


def _points(plan: Plan, tried: dict[str, Records], setting: str) -> list[Series]:
    having = {
        name: {spec: record for spec, record in trials.items() if setting in spec.values}
        for name, trials in tried.items()
    }
    return [_series(plan, name, trials, setting) for name, trials in having.items() if trials]


def _series(plan: Plan, name: str, trials: Records, setting: str) -> Series:
    best = tuning.best_point(plan, trials, name)
    return Series(
        name,
        [spec.values[setting] for spec in trials],
        in_unit(plan.metric, [record["score"] for record in trials.values()]),
        texts=[_text(plan.metric, spec, record) for spec, record in trials.items()],
        best=[spec.values for spec in trials].index(best),
        diverged=[i for i, record in enumerate(trials.values()) if record["diverged"]],
    )


def _text(metric: Metric, spec: Spec, record: Record) -> str:
    result = "diverged" if record["diverged"] else score(metric, record["score"])
    return f"{label(spec.optimizer)}: {result} at {settings(spec.values)}"


def _budget(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The expected best score of k trials."""
    metric = plan.metric
    series = []
    for name, trials in tried.items():
        best = map(
            metric.oriented, best_of_k([metric.oriented(r["score"]) for r in trials.values()])
        )
        series.append(Series(name, range(1, len(trials) + 1), in_unit(metric, best)))
    text = f"Expected best {metric.name} of k tuning trials; of all, {last_values(series)}."
    panel = Panel("", Axis("tuning trials k"), metric_axis(metric), series)
    note = "Expected best score of k tuning trials."
    return Figure("budget", "Best of k trials", text, [panel], note)
