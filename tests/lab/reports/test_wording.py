"""Numbers as text."""

import math

import pytest

from tangential_lab.reports import wording
from tangential_lab.statistics import Interval


@pytest.mark.parametrize(
    ("result", "texts"),
    [
        (Interval(0.000000314, 0.000000246, 0.000000382, 5), ("3.14e-07", "2.46e-07", "3.82e-07")),
        (Interval(2.4952001, 2.4935002, 2.4969, 5), ("2.495", "2.494", "2.497")),
        (Interval(0.003541234, 0.00353, 0.003552, 5), ("0.003541", "0.003530", "0.003552")),
        (Interval(1234.56, 1200.0, 1269.12, 5), ("1235", "1200", "1269")),
        (Interval(12.0, -3.0, 27.0, 5), ("12", "-3", "27")),
        (Interval(5e199, 1e199, 9e199, 2), ("5.0e+199", "1.0e+199", "9.0e+199")),
        (Interval(2.0, 2.0, 2.0, 3), ("2.00", "", "")),
        (Interval(2.0, -math.inf, math.inf, 1), ("2.00", "", "")),
        (Interval(math.nan, -math.inf, math.inf, 0), ("?", "", "")),
    ],
)
def test_means_have_as_many_digits_as_their_interval_supports(result, texts):
    assert wording.near(result) == texts


def test_a_tiny_share_is_none():
    tiny = Interval(3.14e-7, 2.46e-7, 3.8e-7, 5)
    assert wording.percent(tiny) == ("0.0", "", "")
    assert wording.share(tiny.mean) == "none"
    assert wording.percent(Interval(0.93, 0.92, 0.94, 5)) == ("93.0", "92.0", "94.0")
