"""Numbers in words: with their unit, and with as many digits as can be read."""

import math

from tangential.lab.standings import Reach
from tangential.lab.statistics import Interval
from tangential.lab.task import Metric


def score(metric: Metric, value: float) -> str:
    """A score with its unit: 95.10 %."""
    return f"{100 * value:.2f} %" if metric.unit == "%" else f"{value:.4g} {metric.unit}".strip()


def gap(metric: Metric, value: float, *, unit: bool = True) -> str:
    """A difference of scores with its sign and unit: +1.20 points."""
    text, name = f"{value:+.3g}", metric.unit
    if metric.unit == "%":
        text, name = f"{100 * value:+.2f}", "points"
    return f"{text} {name}".strip() if unit else text


def number(value: float) -> str:
    """Three digits, or four before the point.

    >>> number(0.012345), number(1234.5), number(12345678.0)
    ('0.0123', '1234', '1.23e+07')
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def near(found: Interval, scale: float = 1) -> tuple[str, str]:
    """A mean, and half its interval to two digits or nothing; both with as many decimals.

    >>> near(Interval(0.0124963, 0.0123, 0.0127, 5), 1000)
    ('12.50', '0.20')
    """
    mean, half = scale * found.mean, scale * found.half
    if not found.known or not half:
        return (number(mean) if found.n else "?"), ""
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return (f"{mean:.{decimals}f}", f"{half:.{decimals}f}") if decimals < 9 else (number(mean), "")


def p_value(p: float) -> str:
    """A probability: .062, and < .001 below that.

    >>> p_value(0.0625), p_value(0.0002), p_value(1.0)
    ('.062', '< .001', '1')
    """
    if p < 0.001:
        return "< .001"
    return "1" if p > 0.9995 else f"{p:.3f}"[1:]


def reach(to: Reach, unit: str) -> str:
    """Steps or seconds to the target: 310 steps, at least 480 steps (3 of 5 seeds got there)."""
    if not to.there:
        return f"not within {number(to.mean)} {unit}"
    if to.there == to.n:
        return f"{number(to.mean)} {unit}"
    return f"at least {number(to.mean)} {unit} ({to.there} of {to.n} seeds got there)"


def settings(point: dict[str, float]) -> str:
    """A point: lr 0.1, weight_decay 0.0001."""
    return ", ".join(f"{name} {value:.3g}" for name, value in point.items())


def span(low: str, high: str) -> str:
    """An interval with its level: 95 % interval 1 to 2."""
    return f"95 % interval {low} to {high}"


def listed(names: list[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
