"""Known answers, and laws that the statistics of few seeds keep."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tangential_lab import statistics
from tangential_lab.statistics import Interval

FINITE = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
SCORES = st.lists(FINITE, min_size=1, max_size=8)


# ---- intervals


@given(st.lists(FINITE, min_size=2, max_size=8, unique=True))
def test_an_interval_is_that_of_scipys_t_test(values):
    result = statistics.interval(values)
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    expected = (np.mean(values), ends.low, ends.high, len(values))
    assert result == pytest.approx(expected, rel=1e-12, abs=1e-9)
    assert result.half == pytest.approx((ends.high - ends.low) / 2, rel=1e-9)


def test_one_value_has_no_interval():
    for result in (statistics.interval([3.0]), statistics.difference([4.0], [1.0])):
        assert result.mean == 3.0
        assert result.n == 1
        assert not result.known
        assert result.covers(0)


def test_values_that_are_not_finite_are_left_out():
    assert statistics.interval([1.0, math.nan, 3.0, math.inf])[0::3] == (2.0, 2)
    assert math.isnan(statistics.interval([math.nan]).mean)


def test_an_interval_covers_its_ends():
    result = Interval(1.0, 0.0, 2.0, 5)
    assert result.covers(0.0)
    assert result.covers(2.0)
    assert not result.covers(-0.001)


@given(st.lists(st.floats(0, 1).map(lambda x: round(x, 6)), min_size=2, max_size=8))
def test_the_interval_of_a_share_stays_between_0_and_1(values):
    result = statistics.interval(values, share=True)
    assert 0 <= result.low <= result.mean + 1e-12 <= result.high + 2e-12 <= 1 + 3e-12


def test_the_interval_of_a_share_is_that_of_its_log_odds():
    result = statistics.interval([0.97, 0.99, 0.98], share=True)
    plain = statistics.interval([0.97, 0.99, 0.98])
    logit = lambda x: math.log(x / (1 - x))
    width = plain.half / (0.98 * 0.02)
    assert logit(result.high) - logit(0.98) == pytest.approx(width)
    assert logit(0.98) - logit(result.low) == pytest.approx(width)
    assert result.high < 1 < plain.high


@pytest.mark.parametrize(("n", "samples"), [(2, 500), (5, 2000), (8, 500)])
@pytest.mark.slow
def test_the_bootstrap_interval_has_its_coverage(n, samples):
    """The plain percentile bootstrap does not."""
    drawn = np.random.default_rng(n).normal(0.3, 2, size=(samples, n))
    covered = sum(statistics.difference(list(row), [0.0] * n).covers(0.3) for row in drawn)
    assert 0.93 <= covered / samples <= 0.965
    plain = stats.bootstrap(
        (drawn,), np.mean, axis=1, method="percentile", n_resamples=999, rng=0
    ).confidence_interval
    assert ((plain.low <= 0.3) & (plain.high >= 0.3)).mean() < 0.91


def test_a_difference_is_paired():
    """The seeds differ by far more than the optimizers."""
    result = statistics.difference([10.1, 20.2, 30.1, 40.2], [10.0, 20.0, 30.0, 40.0])
    assert result.mean == pytest.approx(0.15)
    assert 0 < result.low < 0.15 < result.high < 0.3


def test_the_interval_of_equal_differences_has_no_width():
    assert statistics.difference([2.0] * 5, [1.5] * 5) == (0.5, 0.5, 0.5, 5)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="shorter"):
        statistics.difference([1.0, 2.0], [1.0])


def test_a_ratio_is_paired():
    result = statistics.ratio([2.0, 8.0, 5.0], [1.0, 2.0, 0.0])
    assert result.mean == pytest.approx(math.sqrt(8))
    assert result.n == 2
    assert result.low < result.mean < result.high
    assert not statistics.ratio([2.0], [1.0]).known


def test_an_interval_of_enormous_scores():
    result = statistics.interval([1e200, 2.0])
    assert result.mean == pytest.approx(5e199)
    assert result.high == pytest.approx(5e199 * (1 + 12.706), rel=1e-3)
    assert statistics.interval([3.0, 3.0]) == (3.0, 3.0, 3.0, 2)


def test_the_ratio_of_extreme_values_has_no_ends():
    result = statistics.ratio([1e300, 1.0], [1e-300, 1.0])
    assert result.mean == pytest.approx(1e300)
    assert (result.low, result.high) == (0.0, math.inf)


# ---- who is better


PAIRS = st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=8)


@given(PAIRS)
def test_the_probabilities_of_both_sides_add_up_to_one(pairs):
    a, b = zip(*pairs, strict=True)
    assert statistics.probability(a, b) + statistics.probability(b, a) == pytest.approx(1)


@given(PAIRS)
def test_probability_counts_the_pairs_of_one_seed(pairs):
    wins = sum((x > y) + 0.5 * (x == y) for x, y in pairs)
    assert statistics.probability(*zip(*pairs, strict=True)) == pytest.approx(wins / len(pairs))


def test_equivalence_is_two_one_sided_tests_of_scipy():
    a, b = [1.0, 2.3, 2.9, 4.4], [1.2, 2.1, 3.1, 4.0]
    gaps = np.subtract(a, b)
    sides = [
        stats.ttest_1samp(gaps, -0.5, alternative="greater").pvalue,
        stats.ttest_1samp(gaps, 0.5, alternative="less").pvalue,
    ]
    assert statistics.equivalence_p(a, b, 0.5) == pytest.approx(max(sides))
    assert statistics.equivalence_p([1.0, 2.0], [1.0, 2.0], 0.5) == 0
    assert statistics.equivalence_p([1.0, 2.0], [0.0, 1.0], 0.5) == 1
    assert statistics.equivalence_p([1.0], [1.0], 0.5) == 1


@pytest.mark.parametrize("comparisons", [1, 3])
def test_the_smallest_detectable_difference_is_just_significant(comparisons):
    noise = np.array([0.3, -0.4, 0.1, 0.2, -0.2, 0.5, -0.6, 0.1])
    noise -= noise.mean()
    error = statistics.standard_error(list(noise), [0.0] * 8)
    least = statistics.smallest_detectable(error, 8, comparisons)
    for factor, significant in ((1.001, True), (0.999, False)):
        p = stats.ttest_1samp(noise + factor * least, 0).pvalue * comparisons
        assert bool(p < 0.05) is significant
    assert statistics.smallest_detectable(math.inf, 1) == math.inf


def test_p_is_exact():
    """Of the 2^5 ways to swap pairs, two are as far off as five differences of one sign."""
    assert statistics.permutation_p([1.1, 2.3, 1.7, 1.9, 1.2], [1.0] * 5) == 2 / 32
    assert statistics.permutation_p([2, 1, 1, 1, 1], [1, 2, 1, 1, 1]) == 1
    assert statistics.permutation_p([4.0], [1.0]) == 1


@pytest.mark.parametrize("size", [4, 13])
def test_p_is_exact_over_all_signs(size):
    gaps = np.random.default_rng(size).normal(0.5, 1, size)
    signs = np.array([[1 - 2 * (i >> j & 1) for j in range(size)] for i in range(2**size)])
    as_far = np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9
    assert statistics.permutation_p(list(gaps), [0.0] * size) == pytest.approx(as_far.mean())


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 14, 20])
@pytest.mark.parametrize("comparisons", [1, 3, 7])
def test_the_least_p_is_that_of_differences_of_one_sign(n, comparisons):
    ps = [statistics.permutation_p([1.0 + i for i in range(n)], [0.0] * n)] * comparisons
    assert min(statistics.holm(ps)) == pytest.approx(statistics.least_p(n, comparisons))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_p_and_bonferroni(ps):
    result = statistics.holm(ps)
    for p, adjusted in zip(ps, result, strict=True):
        assert p <= adjusted <= min(1, len(ps) * p) + 1e-12
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert sorted(result) == [result[i] for i in order]


def test_holm_of_a_known_example():
    assert statistics.holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert statistics.holm([]) == []


# ---- to the target


@pytest.mark.parametrize(
    ("scores", "at"),
    [
        ([0.2, 0.6, 0.9], 15.0),  # half-way between .2 to .6
        ([0.4, 0.5, 0.9], 10.0),  # exactly
        ([0.6, 0.5, 0.9], 10.0),  # at the first evaluation
        ([0.2, 0.4, 0.4], 20.0),
        ([0.2, 0.3, 0.1], math.nan),
        ([math.nan, 0.2, 0.6], 25.0),
    ],
)
def test_reached_is_linear_between_evaluations(scores, at):
    result = statistics.first_reached([10, 20, 30], scores, 0.4)
    assert result == pytest.approx(at, nan_ok=True)


# ---- the budget


@given(st.lists(FINITE, min_size=1, max_size=7))
def test_best_of_k_is_the_mean_over_all_choices(scores):
    for k, expected in enumerate(statistics.best_of_k(scores), 1):
        best = [max(chosen) for chosen in combinations(scores, k)]
        assert expected == pytest.approx(sum(best) / len(best), abs=1e-9)


def test_best_of_k_with_many_trials():
    result = statistics.best_of_k([float(i) for i in range(1000)])
    assert result[0] == pytest.approx(499.5)
    assert result[-1] == 999
    assert result == sorted(result)


# ---- over tasks


def test_profile_of_known_costs():
    """a is fastest on two of three tasks, and c does not solve the last."""
    result = statistics.profile({"a": [10, 30, 5], "b": [20, 15, 5], "c": [40, 60, math.nan]})
    assert result["a"] == [(1, 2 / 3), (2, 1)]
    assert result["b"] == [(1, 2 / 3), (2, 1)]
    assert result["c"] == [(1, 0), (4, 2 / 3)]


def test_a_task_that_no_optimizer_solves_counts_for_none():
    assert statistics.profile({"a": [1, math.nan], "b": [2, math.nan]}) == {
        "a": [(1, 0.5)],
        "b": [(1, 0), (2, 0.5)],
    }
