"""A figure as plain data: the page and the still pictures draw the same."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from tangential_lab.names import label
from tangential_lab.training.records import Record
from tangential_lab.training.task import Metric

POINTS = 200  # of a line, at most: more than a screen shows
Values = Sequence[float]


class Axis(NamedTuple):
    """What an axis shows, with its unit."""

    title: str
    log: bool = False


class Series(NamedTuple):
    """What one optimizer gave; its name decides its colour, wherever it is drawn."""

    name: str
    x: Values
    y: Values
    low: Values = ()  # of a band around a line
    high: Values = ()
    texts: Sequence[str] = ()  # of points, when pointed at
    best: int | None = None  # of points, the one that is ringed
    lost: Sequence[int] = ()  # of points, those of diverged trials


class Heat(NamedTuple):
    """A matrix of colours: a value for every layer at every step."""

    layers: Sequence[str]
    x: Values
    values: Sequence[Values]  # [layers, steps]
    low: float  # of the range of colours, the same in every panel of a figure
    high: float


class Panel(NamedTuple):
    """A pair of axes, with series or a heat map."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    heat: Heat | None = None
    kind: Literal["lines", "stairs", "points"] = "lines"


class Figure(NamedTuple):
    """Panels side by side."""

    key: str  # name of its files
    title: str
    says: str  # what is seen, for who does not see it
    panels: Sequence[Panel]
    note: str = ""


class Style(NamedTuple):
    """How an optimizer is drawn."""

    colour: str
    dashed: bool  # a baseline
    mark: int  # which shape its points have


def metric_axis(metric: Metric) -> Axis:
    """The metric with its unit."""
    return Axis(f"{metric.name}, {metric.unit}" if metric.unit else metric.name)


def shown(metric: Metric, values: Iterable[float]) -> list[float]:
    """Scores in the unit of their axis."""
    return [100 * x if metric.unit == "%" else x for x in values]


def band(name: str, courses: Iterable[tuple[Values, Values]], *, positive: bool = False) -> Series:
    """Mean over seeds, from the lowest to the highest, at the steps that all have; thinned.

    Args:
        name: Of the optimizer.
        courses: Steps and values, a pair a seed.
        positive: Leave out what a logarithmic axis cannot show.
    """
    usable: Callable[[float], bool] = lambda y: math.isfinite(y) and (y > 0 or not positive)
    seeds = [{x: y for x, y in zip(*course, strict=True) if usable(y)} for course in courses]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    columns = [[seed[step] for seed in seeds] for step in steps]
    size = max(1, math.ceil(len(steps) / POINTS))
    chunks = [slice(i, i + size) for i in range(0, len(steps), size)]
    several = len(seeds) > 1
    return Series(
        name,
        [mean(steps[c]) if size > 1 else steps[c][0] for c in chunks],
        [mean([mean(column) for column in columns[c]]) for c in chunks],
        [mean([min(column) for column in columns[c]]) for c in chunks] if several else (),
        [mean([max(column) for column in columns[c]]) for c in chunks] if several else (),
    )


def mean(values: Sequence[float]) -> float:
    """Of numbers that are all there.

    >>> mean([1.0, 2.0])
    1.5
    """
    return math.fsum(values) / len(values)


def course(record: Record, column: str) -> tuple[Values, Values]:
    """Steps and values of a trial's curve."""
    return record["curves"]["step"], record["curves"][column]


def summed(record: Record, column: str) -> tuple[Values, Values]:
    """A trial's growth summed up: what was logged at a step stands for the steps since the last.

    >>> summed({"curves": {"step": [9, 19], "growth_step": [0.01, 0.02]}}, "growth_step")
    ([9, 19], [0.1, 0.3])
    """
    steps, values = course(record, column)
    totals: list[float] = []
    last, total = -1, 0.0
    for step, value in zip(steps, values, strict=True):
        total += (step - last) * (value if math.isfinite(value) else 0.0)
        last = step
        totals.append(float(f"{total:.6g}"))
    return steps, totals


def ends(series: Sequence[Series]) -> str:
    """Where every line ends: SGD 1.94, SGDP 3.2."""
    return ", ".join(f"{label(one.name)} {one.y[-1]:.3g}" for one in series if one.y)


def plain(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Figures for JSON: numbers to four digits, and null where there is none."""
    return [_plain(figure) for figure in figures]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items() if v not in ((), None, "")}
    if isinstance(value, (list, tuple, range)):
        return [_plain(one) for one in value]
    return value
