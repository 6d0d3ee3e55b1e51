"""Known answers, and laws that the statistics of few seeds keep."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tangential_lab.reports import statistics
from tangential_lab.reports.statistics import Interval

FINITE = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
SCORES = st.lists(FINITE, min_size=1, max_size=8)


# ---- intervals


def test_interval_is_students():
    found = statistics.interval([1, 2, 3, 4, 5])
    half = stats.t.ppf(0.975, 4) * math.sqrt(2.5 / 5)
    assert found == pytest.approx((3, 3 - half, 3 + half, 5))
    assert found.half == pytest.approx(half)


def test_one_value_has_no_interval():
    for found in (statistics.interval([3.0]), statistics.difference([4.0], [1.0])):
        assert found.mean == 3.0
        assert found.n == 1
        assert not found.known
        assert found.covers(0)


def test_what_is_not_finite_is_left_out():
    assert statistics.interval([1.0, math.nan, 3.0, math.inf])[0::3] == (2.0, 2)
    assert math.isnan(statistics.interval([math.nan]).mean)


def test_covers_its_ends():
    found = Interval(1.0, 0.0, 2.0, 5)
    assert found.covers(0.0)
    assert found.covers(2.0)
    assert not found.covers(-0.001)


@pytest.mark.parametrize(("n", "samples"), [(2, 500), (5, 2000), (8, 500)])
def test_bootstrap_covers_at_its_level(n, samples):
    """And the plain percentile bootstrap does not."""
    drawn = np.random.default_rng(n).normal(0.3, 2, size=(samples, n))
    covered = sum(statistics.difference(list(row), [0.0] * n).covers(0.3) for row in drawn)
    assert 0.93 <= covered / samples <= 0.965
    plain = stats.bootstrap(
        (drawn,), np.mean, axis=1, method="percentile", n_resamples=999, rng=0
    ).confidence_interval
    assert ((plain.low <= 0.3) & (plain.high >= 0.3)).mean() < 0.91


def test_difference_is_paired():
    """Seeds that differ by far more than the optimizers do."""
    found = statistics.difference([10.1, 20.2, 30.1, 40.2], [10.0, 20.0, 30.0, 40.0])
    assert found.mean == pytest.approx(0.15)
    assert 0 < found.low < 0.15 < found.high < 0.3


def test_differences_that_are_all_the_same_have_an_interval_without_width():
    assert statistics.difference([2.0] * 5, [1.5] * 5) == (0.5, 0.5, 0.5, 5)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="shorter"):
        statistics.difference([1.0, 2.0], [1.0])


def test_ratio_is_of_pairs():
    found = statistics.ratio([2.0, 8.0, 5.0], [1.0, 2.0, 0.0])
    assert found.mean == pytest.approx(math.sqrt(8))
    assert found.n == 2
    assert found.low < found.mean < found.high
    assert not statistics.ratio([2.0], [1.0]).known


def test_an_interval_of_enormous_scores():
    found = statistics.interval([1e200, 2.0])
    assert found.mean == pytest.approx(5e199)
    assert found.high == pytest.approx(5e199 * (1 + 12.706), rel=1e-3)
    assert statistics.interval([3.0, 3.0]) == (3.0, 3.0, 3.0, 2)


def test_ratio_of_what_lies_too_far_apart_has_no_ends():
    found = statistics.ratio([1e300, 1.0], [1e-300, 1.0])
    assert found.mean == pytest.approx(1e300)
    assert (found.low, found.high) == (0.0, math.inf)


# ---- who is better


@given(SCORES, SCORES)
def test_probability_of_both_sides_is_one(a, b):
    assert statistics.probability(a, b) + statistics.probability(b, a) == pytest.approx(1)


@given(SCORES, SCORES)
def test_probability_is_mann_whitneys_u(a, b):
    found = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    assert statistics.probability(a, b) == pytest.approx(found)


def test_p_is_exact():
    """Of the 2^5 ways to swap pairs, two are as far off as five differences of one sign."""
    assert statistics.permutation_p([1.1, 2.3, 1.7, 1.9, 1.2], [1.0] * 5) == 2 / 32
    assert statistics.permutation_p([2, 1, 1, 1, 1], [1, 2, 1, 1, 1]) == 1
    assert statistics.permutation_p([4.0], [1.0]) == 1


@pytest.mark.parametrize("size", [4, 13])
def test_p_is_that_of_all_signs(size):
    gaps = np.random.default_rng(size).normal(0.5, 1, size)
    signs = np.array([[1 - 2 * (i >> j & 1) for j in range(size)] for i in range(2**size)])
    as_far = np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9
    assert statistics.permutation_p(list(gaps), [0.0] * size) == pytest.approx(as_far.mean())


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 14, 20])
@pytest.mark.parametrize("comparisons", [1, 3, 7])
def test_least_p_is_that_of_differences_of_one_sign(n, comparisons):
    ps = [statistics.permutation_p([1.0 + i for i in range(n)], [0.0] * n)] * comparisons
    assert min(statistics.holm(ps)) == pytest.approx(statistics.least_p(n, comparisons))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_p_and_bonferroni(ps):
    found = statistics.holm(ps)
    for p, adjusted in zip(ps, found, strict=True):
        assert p <= adjusted <= min(1, len(ps) * p) + 1e-12
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert sorted(found) == [found[i] for i in order]


def test_holm_of_a_known_family():
    assert statistics.holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert statistics.holm([]) == []


# ---- to the target


@pytest.mark.parametrize(
    ("scores", "at"),
    [
        ([0.2, 0.6, 0.9], 15.0),  # half-way from .2 to .6
        ([0.4, 0.5, 0.9], 10.0),  # exactly
        ([0.6, 0.5, 0.9], 10.0),  # at the first evaluation
        ([0.2, 0.4, 0.4], 20.0),
        ([0.2, 0.3, 0.1], math.nan),
        ([math.nan, 0.2, 0.6], 25.0),
    ],
)
def test_reached_is_linear_between_evaluations(scores, at):
    found = statistics.first_reached([10, 20, 30], scores, 0.4)
    assert found == pytest.approx(at, nan_ok=True)


# ---- the budget


@given(st.lists(FINITE, min_size=1, max_size=7))
def test_best_of_k_is_the_mean_over_all_choices(scores):
    for k, expected in enumerate(statistics.best_of_k(scores), 1):
        best = [max(chosen) for chosen in combinations(scores, k)]
        assert expected == pytest.approx(sum(best) / len(best), abs=1e-9)


def test_best_of_k_with_many_trials():
    found = statistics.best_of_k([float(i) for i in range(1000)])
    assert found[0] == pytest.approx(499.5)
    assert found[-1] == 999
    assert found == sorted(found)


# ---- over tasks


def test_profile_of_known_costs():
    """a is fastest on two tasks of three, and c does not get there on the last."""
    found = statistics.profile({"a": [10, 30, 5], "b": [20, 15, 5], "c": [40, 60, math.nan]})
    assert found["a"] == [(1, 2 / 3), (2, 1)]
    assert found["b"] == [(1, 2 / 3), (2, 1)]
    assert found["c"] == [(1, 0), (4, 2 / 3)]


def test_a_task_that_nobody_solves_counts_for_nobody():
    assert statistics.profile({"a": [1, math.nan], "b": [2, math.nan]}) == {
        "a": [(1, 0.5)],
        "b": [(1, 0), (2, 0.5)],
    }
