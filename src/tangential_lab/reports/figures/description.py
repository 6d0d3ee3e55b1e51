"""A figure as plain data, from which pages and picture files are drawn."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from tangential_lab.names import label
from tangential_lab.training import Metric, Record

MARGIN = 0.05  # between the values and the frame, as a share of their range
LINE_POINTS = 200  # points of a line, at most: a screen shows no more
# parts of a training that decide the scale of an axis, as shares of its steps
WHOLE, BEFORE_THE_END, SECOND_HALF = (0.0, 1.0), (0.0, 0.9), (0.5, 1.0)
Values = Sequence[float]


class Axis(NamedTuple):
    """What an axis shows, with its unit."""

    title: str
    log: bool = False
    limits: tuple[float, float] | None = None  # of what is shown; None: all values


class Series(NamedTuple):
    """The values of one optimizer; its name decides how it is drawn in every figure."""

    name: str
    x: Values
    y: Values
    low: Values = ()  # of a band around a line
    high: Values = ()
    texts: Sequence[str] = ()  # of points, shown under the pointer
    best: int | None = None  # index of the point with a ring
    diverged: Sequence[int] = ()  # indices of the points of diverged trials


class Heat(NamedTuple):
    """A matrix of colours: a value for every layer at every step."""

    layers: Sequence[str]
    x: Values
    values: Sequence[Values]  # [layers, steps]
    low: float  # of the range of colours, the same in every panel of a figure
    high: float
    labels: Sequence[str] = ()  # of the layers, on the axis; none where there are too many


class Panel(NamedTuple):
    """A pair of axes, with series or a heat map."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    heat: Heat | None = None
    kind: Literal["lines", "stairs", "points"] = "lines"


class Figure(NamedTuple):
    """Panels side by side, row by row."""

    key: str  # name of its files
    title: str
    description: str  # what a reader sees, for a screen reader
    panels: Sequence[Panel]
    note: str = ""
    columns: int = 3  # panels in a row, where there is room


def metric_axis(metric: Metric) -> Axis:
    """The metric with its unit."""
    return Axis(f"{metric.name}, {metric.unit}" if metric.unit else metric.name)


def in_unit(metric: Metric, scores: Iterable[float]) -> list[float]:
    """Scores in the unit of their axis."""
    return [100 * x if metric.unit == "%" else x for x in scores]


def band(name: str, curves: Iterable[tuple[Values, Values]], *, positive: bool = False) -> Series:
    """Mean over seeds with the lowest and the highest value, at the steps that all seeds have.

    Args:
        name: The optimizer.
        curves: Steps and values of each seed.
        positive: Leave out values that a logarithmic axis cannot show.
    """
    seeds = [_usable(steps, values, positive=positive) for steps, values in curves]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    columns = [[seed[step] for seed in seeds] for step in steps]
    chunks = thinned(len(steps), LINE_POINTS)

    def over_seeds(statistic: Any) -> list[float]:
        return [mean([statistic(column) for column in columns[chunk]]) for chunk in chunks]

    several = len(seeds) > 1
    x = steps if len(chunks) == len(steps) else [mean(steps[chunk]) for chunk in chunks]
    low, high = (over_seeds(min), over_seeds(max)) if several else ((), ())
    return Series(name, x, over_seeds(mean), low, high)


def _usable(steps: Values, values: Values, *, positive: bool) -> dict[float, float]:
    pairs = zip(steps, values, strict=True)
    return {x: y for x, y in pairs if math.isfinite(y) and (y > 0 or not positive)}


def thinned(size: int, most: int) -> list[slice]:
    """Chunks of equal length, at most `most`, that cover a list of this size."""
    length = max(1, math.ceil(size / most))
    return [slice(i, i + length) for i in range(0, size, length)]


def mean(values: Sequence[float]) -> float:
    """The mean of finite numbers.

    >>> mean([1.0, 2.0])
    1.5
    """
    return math.fsum(values) / len(values)


def curve_of(record: Record, column: str) -> tuple[Values, Values]:
    """Steps and values of a trial's curve."""
    return record["curves"]["step"], record["curves"][column]


def summed(steps: Values, values: Values) -> tuple[Values, Values]:
    """Steps and running sum of a growth curve.

    A value that was logged at a step counts for all steps since the previous logged step.

    >>> summed([9, 19], [0.01, 0.02])
    ([9, 19], [0.1, 0.3])
    """
    totals: list[float] = []
    last, total = -1, 0.0
    for step, value in zip(steps, values, strict=True):
        total += (step - last) * (value if math.isfinite(value) else 0.0)
        last = step
        totals.append(float(f"{total:.6g}"))
    return steps, totals


def fitted(axis: Axis, lines: Iterable[Series], shares: tuple[float, float] = WHOLE) -> Axis:
    """The axis with limits that show the values of these lines in a part of the training.

    What lies elsewhere may be outside: the end of a schedule that ends at 0, or the beginning of a
    score, would leave no room for the rest.

    Args:
        axis: The axis.
        lines: The lines of all panels that share this axis.
        shares: Begin and end of this part, as shares of the last x.
    """
    lines = [*lines]
    last = max((max(line.x) for line in lines if line.x), default=0)
    start, end = (share * last for share in shares)
    values = [
        math.log(y) if axis.log else y
        for line in lines
        for ys in (line.y, line.low, line.high)
        for x, y in zip(line.x, ys, strict=False)
        if start <= x <= end
    ]
    if not values:
        return axis
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or MARGIN * abs(high) or MARGIN
    low, high = low - margin, high + margin
    return axis._replace(limits=(math.exp(low), math.exp(high)) if axis.log else (low, high))


def last_values(series: Sequence[Series]) -> str:
    """Where every line ends: SGD 1.94, SGDP 3.2."""
    return ", ".join(f"{label(line.name)} {line.y[-1]:.3g}" for line in series if line.y)


def plain(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Figures for JSON: numbers to four digits, and null where a number is missing."""
    return [_plain(figure) for figure in figures]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    if hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items() if v not in ((), None, "")}
    if isinstance(value, (list, tuple, range)):
        return [_plain(item) for item in value]
    return value
