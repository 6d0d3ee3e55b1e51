"""Numbers in words: with their unit, and with as many digits as can be read."""

import math
import re

from tangential_lab.reports.standings import Range, Reach
from tangential_lab.reports.statistics import Interval
from tangential_lab.training.task import Metric

DIGITS = 4  # of a mean with an interval, at most


def unsigned_zero(text: str) -> str:
    """A formatted number, without the minus of a zero.

    >>> unsigned_zero("-0.00 points"), unsigned_zero("-0 %"), unsigned_zero("-0.01")
    ('0.00 points', '0 %', '-0.01')
    """
    return re.sub(r"^-(?=0(?:\.0*)?(?:e[+-]\d+)?(?:\s|$))", "", text)


def score(metric: Metric, value: float) -> str:
    """A score with its unit: 95.10 %."""
    text = f"{100 * value:.2f} %" if metric.unit == "%" else f"{value:.4g} {metric.unit}".strip()
    return unsigned_zero(text)


def gap(metric: Metric, value: float, *, unit: bool = True) -> str:
    """A difference of scores with its sign and unit: +1.20 points."""
    text, name = f"{value:+.3g}", metric.unit
    if metric.unit == "%":
        text, name = f"{100 * value:+.2f}", "points"
    text = unsigned_zero(text)
    return f"{text} {name}".strip() if unit else text


def number(value: float) -> str:
    """Three significant digits, or all that stand before the point.

    >>> number(0.012345), number(2), number(999.7), number(1234.5), number(12345678.0)
    ('0.0123', '2.00', '1000', '1234', '1.23e+07')
    """
    if value == 0 or not math.isfinite(value):
        return unsigned_zero(f"{value:g}")
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:#.3g}".removesuffix(".")


def near(found: Interval, scale: float = 1) -> tuple[str, str, str]:
    """A mean and the ends of its interval, to two digits of half the interval; or no ends.

    >>> near(Interval(0.0124963, 0.0123, 0.0127, 5), 1000)
    ('12.50', '12.30', '12.70')
    >>> near(Interval(3.14e-7, 2.5e-7, 3.8e-7, 5))
    ('3.14e-07', '2.50e-07', '3.80e-07')
    """
    mean, low, high, half = (scale * x for x in (*found[:3], found.half))
    if not found.n:
        return "?", "", ""
    if not found.known or not half:
        return number(mean), "", ""
    form = _form(max(map(abs, (mean, low, high))), half)
    return _formatted(form, mean, low, high)


def _formatted(form: str, mean: float, low: float, high: float) -> tuple[str, str, str]:
    """Three numbers in one format."""
    return (
        unsigned_zero(f"{mean:{form}}"),
        unsigned_zero(f"{low:{form}}"),
        unsigned_zero(f"{high:{form}}"),
    )


def _form(largest: float, half: float) -> str:
    first = math.floor(math.log10(largest))
    last = max(math.floor(math.log10(half)) - 1, first - DIGITS + 1)  # the last decimal place
    if -4 <= first < 6:
        return f".{max(0, -last)}f"
    return f".{max(first - last, 1)}e"


def near_range(found: Range) -> tuple[str, str, str]:
    """A mean, the lowest and the highest, four digits of the mean; or the mean alone.

    >>> near_range(Range(0.98765, 0.98, 0.99))
    ('0.9877', '0.9800', '0.9900')
    """
    if not math.isfinite(found.mean):
        return "?", "", ""
    if found.low == found.high:
        return number(found.mean), "", ""
    largest = max(map(abs, found))
    return _formatted(_form(largest, largest * 1e-6), *found)


def percent(found: Interval) -> tuple[str, str, str]:
    """A share in percent, with one decimal; tiny ones are 0.0."""
    mean, low, high = _formatted(".1f", *(100 * x for x in found[:3]))
    if not found.n:
        return "?", "", ""
    return (mean, low, high) if found.known and low != high else (mean, "", "")


def near_score(metric: Metric, found: Interval) -> tuple[str, str, str]:
    """The mean score and the ends of its interval, percentages to two decimals."""
    if metric.unit != "%":
        return near(found)
    mean, low, high = _formatted(".2f", *(100 * x for x in found[:3]))
    return (mean, low, high) if found.known and low != high else (mean, "", "")


def setting(point: dict[str, float], name: str) -> str:
    """A setting to three digits, the decay to two; "" where the point has none."""
    digits = 2 if name == "weight_decay" else 3
    return unsigned_zero(f"{point[name]:.{digits}g}") if name in point else ""


def p_value(p: float) -> str:
    """A probability: .062, and < .001 below that.

    >>> p_value(0.0625), p_value(0.0002), p_value(1.0)
    ('.062', '< .001', '1')
    """
    if p < 0.001:
        return "< .001"
    return "1" if p > 0.9995 else f"{p:.3f}"[1:]


def reach(steps: Reach, seconds: Reach) -> str:
    """How long it took to the target.

    >>> reach(Reach(310.0, 5, 5, 300.0), Reach(3.9, 5, 5, 3.8))
    '310 steps (3.90 s)'
    >>> reach(Reach(480.0, 3, 5, 470.0), Reach(5.8, 3, 5, 5.7))
    'at least 480 steps (5.80 s; 3 of 5 seeds reached it)'
    """
    took = f"{number(steps.mean)} steps ({number(seconds.mean)} s"
    if steps.there == steps.n:
        return f"{took})"
    if steps.there:
        return f"at least {took}; {steps.there} of {steps.n} seeds reached it)"
    return f"more than {took}; none of {steps.n} seeds reached it)"


def share(part: float) -> str:
    """A share in words.

    >>> share(0.896), share(0.001)
    ('90 %', 'none')
    """
    text = f"{100 * part:.0f} %"
    return "none" if unsigned_zero(text) == "0 %" else text


def capital(text: str) -> str:
    """With a capital first letter, the others as they are.

    >>> capital("recall@1 of SGD")
    'Recall@1 of SGD'
    """
    return text[:1].upper() + text[1:]


def settings(point: dict[str, float]) -> str:
    """A point: lr 0.1, weight_decay 0.0001."""
    return ", ".join(f"{name} {unsigned_zero(f'{x:.3g}')}" for name, x in point.items())


def span(low: str, high: str) -> str:
    """An interval with its level: 95 % interval 1 to 2."""
    return f"95 % interval {low} to {high}"


def listed(names: list[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
