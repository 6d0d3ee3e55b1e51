"""Rows and comparisons are those of the seeds, in any order of the trials."""

import math
import re

import made_study as made
import pytest

from tangential_lab.reports import page, report, standings, wording
from tangential_lab.reports.rows import Range, Reach
from tangential_lab.statistics import interval
from tangential_lab.training import Spec

PAIR = ("sgd", "sgdp")


def test_the_target_is_the_worst_optimizers_mean():
    result = made.scored(seeds=5, sgd=[0.8, 0.82, 0.84, 0.8, 0.84], sgdp=[0.9] * 5)
    assert result.target == pytest.approx(0.82)


def test_seeds_that_never_reach_the_target_count_as_long_as_they_ran():
    plan = made.plan(PAIR, trials=0, seeds=2, undecayed=False)
    records = made.finished(plan)
    courses = {
        ("sgd", 1000): ([10, 20], [1.0, 2.0], [0.5, 0.7]),
        ("sgd", 1001): ([10, 20], [1.0, 2.0], [0.5, 0.9]),
        ("sgdp", 1000): ([10, 20], [1.0, 2.0], [0.6, 1.0]),
        ("sgdp", 1001): ([10, 20], [1.0, 2.0], [0.8, 0.9]),
    }
    for spec in records:
        step, time_s, score = courses[spec.optimizer, spec.seed]
        records[spec] |= {
            "scores": {"step": step, "time_s": time_s, "score": score},
            "score": score[-1],
        }
    result = report(plan, records)
    assert result.target == pytest.approx(0.8)
    assert made.row_of(result, "sgdp").steps == pytest.approx(Reach((15 + 10) / 2, 2, 2, 12.5))
    assert made.row_of(result, "sgd").steps == pytest.approx(Reach((20 + 17.5) / 2, 1, 2, math.inf))
    assert made.row_of(result, "sgd").seconds == pytest.approx(Reach(1.875, 1, 2, math.inf))
    assert result.findings[0].cost.endswith(
        "SGDP reached 80.00 % after 12.5 steps (1.25 s). "
        "1 of 2 seeds of SGD reached 80.00 %; mean at least 18.8 steps (1.88 s)."
    )
    assert "≥ 18.8" in page(result)


def test_the_interval_of_a_share_stays_between_0_and_1():
    high, low = [0.999, 1.0, 0.996, 1.0, 0.97], [0.001, 0.0, 0.03, 0.002, 0.0]
    result = made.scored(seeds=5, sgd=high, sgdp=low)
    assert 0.993 < made.row_of(result, "sgd").score.high < 1
    assert 0 < made.row_of(result, "sgdp").score.low < 0.0066
    assert interval(high).high > 1
    assert interval(low).low < 0
    text = page(result)
    assert not re.search(r"to 10[0-9]\.[0-9]*[1-9]|small>\(-", text)
    other = made.scored(metric=made.PERPLEXITY, seeds=5, sgd=[25.0, 1, 1, 1, 1], sgdp=[1.0] * 5)
    assert made.row_of(other, "sgd").score.low < 0  # no share: as it is


def test_other_metrics_have_the_range_of_their_seeds():
    plan = made.plan(PAIR, trials=0, seeds=3, undecayed=False)
    records = made.finished(plan)
    for spec, record in records.items():
        record["metrics"] = {"recall": 0.97 + 0.01 * (spec.seed - 1000)}
    result = report(plan, records)
    assert made.row_of(result, "sgd").metrics["recall"] == pytest.approx((0.98, 0.97, 0.99))
    assert "0.9800 <small>(0.9700 to 0.9900)</small>" in page(result)
    assert wording.near_range(Range.of([math.nan])) == ("?", "", "")


def test_seeds_are_paired_in_any_order(study):
    turned = dict(reversed(study.records.items()))
    assert report(study.plan, turned).rows == study.rows


def test_an_optimizer_is_not_compared_without_seeds_of_its_baseline():
    plan = made.plan(PAIR, undecayed=False)
    records = {s: r for s, r in made.finished(plan).items() if s.optimizer == "sgdp"}
    (alone,) = standings.rows(plan, records)
    assert not alone.comparisons
    assert isinstance(next(iter(records)), Spec)
