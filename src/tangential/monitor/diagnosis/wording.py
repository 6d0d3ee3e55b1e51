"""A verdict on a run, and how its numbers are written."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A sentence, with the numbers behind it.

    Attributes:
        kind: The kind of finding, such as "premature slowdown".
        text: The sentence.
        numbers: The numbers by name. Names in `_rad` are angles per step; shares are in [0, 1].
        labels: The weights or normalisations concerned.
    """

    kind: str
    text: str
    numbers: dict[str, float]
    labels: tuple[str, ...] = ()


def multiple(ratio: float) -> str:
    """A ratio as a number.

    >>> multiple(5.123), multiple(1234.0), multiple(3.21e8)
    ('5.1', '1,234', '3.2e+08')
    """
    if ratio >= 1e6:
        return f"{ratio:.2g}"
    return f"{ratio:,.1f}" if ratio < 100 else f"{ratio:,.0f}"


def of_equilibrium(ratio: float) -> str:
    """An angle as a multiple of the angle at equilibrium.

    >>> of_equilibrium(1.42), of_equilibrium(0.998), of_equilibrium(123.4)
    ('1.4 times that of equilibrium', 'about that of equilibrium', '123 times that of equilibrium')
    """
    times = f"{ratio:.2g}" if ratio < 9.95 else multiple(ratio)
    return f"{'about' if times == '1' else f'{times} times'} that of equilibrium"


def fell(ratio: float) -> str:
    """The ratio of first to last value, as a change: fell 5.1-fold.

    >>> fell(0.5), fell(1.04)
    ('rose 2.0-fold', 'did not change')
    """
    return _changed(ratio, "fell", "rose")


def grew(ratio: float) -> str:
    """The ratio of last to first value, as a change: grew 5.1-fold.

    >>> grew(1.62), grew(0.5), grew(0.97)
    ('grew 1.6-fold', 'shrank 2.0-fold', 'did not change')
    """
    return _changed(ratio, "grew", "shrank")


def _changed(ratio: float, word: str, opposite: str) -> str:
    times = multiple(max(ratio, 1 / (ratio or math.nan)))
    if times == "1.0":
        return "did not change"
    return f"{word if ratio >= 1 else opposite} {times}-fold"


def percent(share: float) -> str:
    """A share: 93 %; a small share is not rounded to zero.

    >>> percent(0.934), percent(0.004)
    ('93 %', 'less than 1 %')
    """
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def counted(number: float, thing: str) -> str:
    """A number of things: 1 log, 1,200 logs.

    >>> counted(1200, "log"), counted(1, "log")
    ('1,200 logs', '1 log')
    """
    return f"{number:,.0f} {thing}{'' if number == 1 else 's'}"
