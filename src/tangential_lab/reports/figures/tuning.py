"""The figures of the search: every tuning trial, and what a smaller budget would have found."""

from tangential_lab.names import label
from tangential_lab.reports.figures.description import (
    Axis,
    Figure,
    Panel,
    Series,
    in_unit,
    last_values,
    metric_axis,
)
from tangential_lab.reports.statistics import best_of_k
from tangential_lab.reports.wording import score, settings
from tangential_lab.studies import Plan
from tangential_lab.training import Metric, Record, Records, Spec


def tuning_figures(plan: Plan, records: Records) -> list[Figure]:
    """The score of every tuning trial over each setting; the expected best of k trials."""
    tried: dict[str, Records] = {name: {} for name in plan.optimizers}
    for spec, record in records.items():
        if spec.phase == "tune" and spec.optimizer in tried:
            tried[spec.optimizer][spec] = record
    tried = {name: trials for name, trials in tried.items() if trials}
    return [_all_trials(plan, tried), _budget(plan, tried)]


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
    return Figure("tuning", "Every tuning trial", text, panels, note)


def _points(plan: Plan, tried: dict[str, Records], setting: str) -> list[Series]:
    having = {
        name: {spec: record for spec, record in trials.items() if setting in spec.values}
        for name, trials in tried.items()
    }
    return [_series(plan, name, trials, setting) for name, trials in having.items() if trials]


def _series(plan: Plan, name: str, trials: Records, setting: str) -> Series:
    ranks = [plan.rank(record) for record in trials.values()]
    return Series(
        name,
        [spec.values[setting] for spec in trials],
        in_unit(plan.metric, [record["score"] for record in trials.values()]),
        texts=[_text(plan.metric, spec, record) for spec, record in trials.items()],
        best=ranks.index(max(ranks)),
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
