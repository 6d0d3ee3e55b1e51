"""The mean scores of a sweep as a table, by learning rate and weight decay."""

from typing import NamedTuple

from tangential_lab.reports.wording import score
from tangential_lab.studies import Plan, tuning
from tangential_lab.training import Records


class GridRow(NamedTuple):
    """The scores of an optimizer with one weight decay."""

    optimizer: str
    decay: float  # lr * weight_decay * steps
    scores: dict[float, str]  # by the learning rate as a multiple of the published one


def grid(plan: Plan, records: Records) -> list[GridRow]:
    """The rows of a sweep's table, by weight decay; without those that have no trial yet."""
    rows: dict[tuple[float, str], dict[float, str]] = {}
    for name, optimizer in plan.optimizers.items():
        for tuned in tuning.ranking(plan, records, name):
            multiple = float(f"{tuned.point['lr'] / optimizer.published['lr']:.2g}")
            level = tuning.decay_level(plan, name, tuned.point)
            shown = "diverged" if tuned.diverged else score(plan.metric, tuned.score, unit=False)
            rows.setdefault((level, name), {})[multiple] = shown
    levels = sorted(rows.items(), key=lambda item: item[0][0])
    return [GridRow(name, level, scores) for (level, name), scores in levels]


def multiples(rows: list[GridRow]) -> dict[float, str]:
    """The learning rates of these rows, rising, with the headings of their columns.

    >>> multiples([GridRow("sgd", 0.0, {3.0: "", 1.0: ""})])
    {1.0: 'lr', 3.0: '3 lr'}
    """
    values = sorted({multiple for row in rows for multiple in row.scores})
    return {x: "lr" if x == 1 else f"{x:g} lr" for x in values}
