"""The figures of the search: every tuning trial, and what a smaller budget would have found."""

from collections.abc import Callable

from tangential_lab.names import label
from tangential_lab.reports.figures import Axis, Figure, Panel, Series, ends, metric_axis, shown
from tangential_lab.reports.statistics import best_of_k
from tangential_lab.reports.wording import score, settings
from tangential_lab.studies.plan import Plan
from tangential_lab.training.records import Record, Records, Spec
from tangential_lab.training.task import Metric


def tuning(plan: Plan, records: Records) -> list[Figure]:
    """The score of every tuning trial over each setting; the expected best of k."""
    tried: dict[str, Records] = {}
    for optimizer in plan.optimizers:
        mine = {s: r for s, r in records.items() if (s.optimizer, s.phase) == (optimizer, "tune")}
        tried |= {optimizer: mine} if mine else {}
    return [every(plan, tried), budget(plan, tried)]


def every(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The score over each setting, a panel a setting."""
    names = dict.fromkeys(name for some in tried.values() for spec in some for name in spec.values)
    panels = [
        Panel(
            "",
            Axis(name, log=True),
            metric_axis(plan.metric),
            _scatter(plan, tried, name),
            kind="points",
        )
        for name in names
    ]
    count = sum(map(len, tried.values()))
    says = f"{count} tuning trials: {plan.metric.name} over {', '.join(names)}."
    note = "Ringed: the best of each optimizer. Crosses: diverged."
    return Figure("tuning", "Every tuning trial", says, panels, note)


def budget(plan: Plan, tried: dict[str, Records]) -> Figure:
    """The best score to be expected of k trials."""
    series = [_budget(plan, optimizer, some) for optimizer, some in tried.items()]
    says = f"Expected best {plan.metric.name} of k tuning trials; of all, {ends(series)}."
    panel = Panel("", Axis("tuning trials k"), metric_axis(plan.metric), series)
    note = "Expected best score of k tuning trials."
    return Figure("budget", "Best of k trials", says, [panel], note)


def _scatter(plan: Plan, tried: dict[str, Records], name: str) -> list[Series]:
    return [
        _dots(plan, optimizer, some, name)
        for optimizer, some in tried.items()
        if any(name in spec.values for spec in some)
    ]


def _dots(plan: Plan, optimizer: str, some: Records, name: str) -> Series:
    kept = [(spec, record) for spec, record in some.items() if name in spec.values]
    rank: Callable[[int], tuple[bool, float, float]] = lambda i: plan.rank(kept[i][1])
    return Series(
        optimizer,
        [spec.values[name] for spec, _ in kept],
        shown(plan.metric, [record["score"] for _, record in kept]),
        texts=[_told(plan.metric, spec, record) for spec, record in kept],
        best=max(range(len(kept)), key=rank),
        lost=[i for i, (_, record) in enumerate(kept) if record["diverged"]],
    )


def _told(metric: Metric, spec: Spec, record: Record) -> str:
    ended = "diverged" if record["diverged"] else score(metric, record["score"])
    return f"{label(spec.optimizer)}: {ended} at {settings(spec.values)}"


def _budget(plan: Plan, optimizer: str, some: Records) -> Series:
    oriented = plan.metric.oriented
    best = map(oriented, best_of_k([oriented(r["score"]) for r in some.values()]))
    return Series(optimizer, range(1, len(some) + 1), shown(plan.metric, best))
