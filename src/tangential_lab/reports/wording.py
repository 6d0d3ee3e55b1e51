"""Numbers as text: with their unit, and no more digits than their interval supports."""

import math
import re

from tangential_lab.reports.rows import Range
from tangential_lab.statistics import Interval
from tangential_lab.training import Metric

MOST_DIGITS = 4  # digits of a mean with an interval, at most


def unsigned_zero(text: str) -> str:
    """A formatted number, without the minus of a zero.

    >>> unsigned_zero("-0.00 points"), unsigned_zero("-0 %"), unsigned_zero("-0.01")
    ('0.00 points', '0 %', '-0.01')
    """
    return re.sub(r"^-(?=0(?:\.0*)?(?:e[+-]\d+)?(?:\s|$))", "", text)


def score(metric: Metric, value: float, *, unit: bool = True) -> str:
    """A score with its unit: 95.10 %."""
    text = f"{100 * value:.2f}" if metric.unit == "%" else f"{value:.4g}"
    return unsigned_zero(f"{text} {metric.unit}".strip() if unit else text)


def gap(metric: Metric, value: float, *, unit: bool = True) -> str:
    """A difference of scores with its sign and unit: +1.20 points."""
    text = unsigned_zero(f"{100 * value:+.2f}" if metric.unit == "%" else f"{value:+.3g}")
    return _with_unit(metric, text) if unit else text


def _with_unit(metric: Metric, text: str) -> str:
    return f"{text} {'points' if metric.unit == '%' else metric.unit}".strip()


def number(value: float) -> str:
    """Three significant digits, or all digits before the point.

    >>> number(0.012345), number(2), number(999.7), number(1234.5), number(12345678.0)
    ('0.0123', '2.00', '1000', '1234', '1.23e+07')
    """
    if value == 0 or not math.isfinite(value):
        return unsigned_zero(f"{value:g}")
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:#.3g}".removesuffix(".")


def near(
    interval: Interval, scale: float = 1, *, digits: int = MOST_DIGITS
) -> tuple[str, str, str]:
    """A mean and the ends of its interval, rounded to two digits of its half width; or no ends.

    Args:
        interval: The interval.
        scale: Factor of all three numbers.
        digits: Number of significant digits of the largest one, at most.

    >>> near(Interval(0.0124963, 0.0123, 0.0127, 5), 1000)
    ('12.50', '12.30', '12.70')
    >>> near(Interval(3.14e-7, 2.5e-7, 3.8e-7, 5))
    ('3.14e-07', '2.50e-07', '3.80e-07')
    """
    mean, low, high, half = (scale * x for x in (*interval[:3], interval.half))
    if not interval.n:
        return "?", "", ""
    if not interval.known or not half:
        return number(mean), "", ""
    form = _form(max(map(abs, (mean, low, high))), half, digits)
    return _formatted(form, mean, low, high)


def _formatted(form: str, mean: float, low: float, high: float) -> tuple[str, str, str]:
    """Three numbers in one format."""
    return (
        unsigned_zero(f"{mean:{form}}"),
        unsigned_zero(f"{low:{form}}"),
        unsigned_zero(f"{high:{form}}"),
    )


def _form(largest: float, half: float, digits: int = MOST_DIGITS) -> str:
    first = math.floor(math.log10(largest))
    last = max(math.floor(math.log10(half)) - 1, first - digits + 1)  # the last decimal place
    if -4 <= first < 6:
        return f".{max(0, -last)}f"
    return f".{max(first - last, 1)}e"


def near_range(values: Range) -> tuple[str, str, str]:
    """A mean, the lowest and the highest value, to four digits; or the mean alone.

    >>> near_range(Range(0.98765, 0.98, 0.99))
    ('0.9877', '0.9800', '0.9900')
    """
    if not math.isfinite(values.mean):
        return "?", "", ""
    if values.low == values.high:
        return number(values.mean), "", ""
    largest = max(map(abs, values))
    return _formatted(_form(largest, largest * 1e-6), *values)


def percent(interval: Interval) -> tuple[str, str, str]:
    """A share in percent, with one decimal; tiny ones are 0.0."""
    return _percent(".1f", interval) if interval.n else ("?", "", "")


def near_score(metric: Metric, interval: Interval) -> tuple[str, str, str]:
    """The mean score and the ends of its interval, percentages to two decimals."""
    return _percent(".2f", interval) if metric.unit == "%" else near(interval)


def near_gap(metric: Metric, interval: Interval, *, unit: bool = False) -> tuple[str, str, str]:
    """A mean difference and the ends of its interval, with signs and equally many decimals.

    >>> near_gap(Metric("loss", "nats", 9.0), Interval(0.00664, -0.02356, 0.0229, 5), unit=True)
    ('+0.007 nats', '-0.024', '+0.023')
    """
    mean, low, high = (gap(metric, x, unit=False) for x in interval[:3])
    if interval.known and interval.half and metric.unit != "%":
        form = _form(max(map(abs, interval[:3])), interval.half)
        mean, low, high = _formatted(f"+{form}", *interval[:3])
    mean = _with_unit(metric, mean) if unit else mean
    return (mean, low, high) if interval.known else (mean, "", "")


def _percent(form: str, interval: Interval) -> tuple[str, str, str]:
    mean, low, high = _formatted(form, *(100 * x for x in interval[:3]))
    return (mean, low, high) if interval.known and low != high else (mean, "", "")


def setting(point: dict[str, float], name: str) -> str:
    """A setting to three digits, the weight decay to two; "" if the point does not have it."""
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


def share(part: float) -> str:
    """A share in a sentence.

    >>> share(0.896), share(0.001)
    ('90 %', 'none')
    """
    text = f"{100 * part:.0f} %"
    return "none" if unsigned_zero(text) == "0 %" else text


def capital(text: str) -> str:
    """The text with a capital first letter.

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


def enumeration(names: list[str]) -> str:
    """The names as a list in a sentence.

    >>> enumeration(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
