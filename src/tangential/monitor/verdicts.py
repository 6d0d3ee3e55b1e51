"""A verdict on a run, and how its numbers are put into words."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A sentence, with the numbers behind it.

    Attributes:
        kind: Of the verdict, in a few words.
        text: The sentence.
        numbers: By name; `_rad` in radians per step, ratios and shares plain.
        labels: The weights or normalisations it is about.
    """

    kind: str
    text: str
    numbers: dict[str, float]
    labels: tuple[str, ...] = ()


def fold(ratio: float) -> str:
    """A ratio: 5.1-fold.

    >>> fold(5.123), fold(1234.0)
    ('5.1-fold', '1,234-fold')
    """
    return f"{ratio:,.1f}-fold" if ratio < 100 else f"{ratio:,.0f}-fold"


def fell(ratio: float) -> str:
    """First over last as a change: fell 5.1-fold.

    >>> fell(0.5)
    'rose 2.0-fold'
    """
    return f"fell {fold(ratio)}" if ratio >= 1 else f"rose {fold(1 / (ratio or math.nan))}"


def percent(share: float) -> str:
    """A share: 93 %, and less than 1 % where it is.

    >>> percent(0.934), percent(0.004)
    ('93 %', 'less than 1 %')
    """
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def counted(number: float, thing: str) -> str:
    """How many: 1 log, 1,200 logs.

    >>> counted(1200, "log"), counted(1, "log")
    ('1,200 logs', '1 log')
    """
    return f"{number:,.0f} {thing}{'' if number == 1 else 's'}"
