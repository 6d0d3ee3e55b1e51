"""Who is ahead: the words, the interval and p agree."""

import math
import re

import made_study as made
import pytest

from tangential_lab.reports import page, report
from tangential_lab.reports.study import adjust_jointly

PAIR = ("sgd", "sgdp")


BETTER, WORSE, MIXED = (
    *([0.92, 0.93, 0.93, 0.92, 0.93, 0.92, 0.92, 0.93], [0.88, 0.87, 0.88, 0.87, 0.88, 0.87] * 2),
    [0.92, 0.88, 0.93, 0.87, 0.91, 0.89, 0.90, 0.90],
)


@pytest.mark.parametrize(
    ("seeds", "mine", "side", "words"),
    [
        (8, BETTER, "ahead", "SGDP is ahead of SGD: accuracy +2.50 points"),
        (8, WORSE, "behind", "SGDP is behind SGD: accuracy -2.50 points"),
        (8, MIXED, "even", "No difference detected between SGDP and SGD: accuracy"),
        (7, BETTER, "leans ahead", "SGDP leans ahead of SGD: accuracy +2.43 points"),
        (3, WORSE, "leans behind", "SGDP leans behind SGD: accuracy -2.33 points"),
        (3, MIXED, "even", "No difference detected between SGDP and SGD: accuracy"),
    ],
)
def test_verdict(seeds, mine, side, words):
    result = made.scored(seeds=seeds, sgd=[0.9] * seeds, sgdp=mine[:seeds])
    (finding,) = result.findings
    assert finding.side == side
    assert finding.verdict.startswith(words)
    against = made.row_of(result, "sgdp").comparisons[0]
    low, high = (f"{100 * x:+.2f}" for x in against.difference[1:3])
    assert f"95 % interval {low} to {high}; {seeds} paired seeds; P(better) " in finding.verdict
    assert against.difference.covers(0) is (side == "even")


def test_with_many_seeds_p_must_be_small_too():
    """Three intervals exclude 0, but p is .031 before and .094 after Holm."""
    ahead = [0.9 + 0.01 * i for i in range(1, 9)]
    mixed = [*([0.899] * 2), *([0.92] * 6)]
    same = {"sgd": [0.9] * 8, "adamw": [0.9] * 8}
    result = made.scored(seeds=8, **same, sgdp=mixed, adamp=mixed, **{"adamp-matched": mixed})
    for one in ("sgdp", "adamp", "adamp-matched"):
        against = made.row_of(result, one).comparisons[0]
        assert not against.difference.covers(0)
        assert against.p < 0.05 < against.p_holm
    assert [finding.side for finding in result.findings] == ["even"] * 3
    assert "p .094 by Holm" in result.findings[0].verdict
    alone = made.scored(seeds=8, sgd=[0.9] * 8, sgdp=ahead)
    assert alone.findings[0].side == "ahead"
    assert "p .008)" in alone.findings[0].verdict


@pytest.mark.parametrize(
    ("seeds", "shown"), [(3, False), (5, False), (6, False), (7, True), (8, True)]
)
def test_p_is_shown_only_if_so_many_seeds_can_make_it_small(seeds, shown):
    """Of two comparisons the least p is 2 * 2^(1 - n): .0625 with six seeds, .03125 with seven."""
    scores = {"sgd": [0.8] * seeds, "sgdp": [0.9 + 0.01 * i for i in range(seeds)]}
    result = made.scored(seeds=seeds, **scores, adamw=[0.8] * seeds, adamp=[0.8] * seeds)
    assert (" by Holm" in result.findings[0].verdict) is shown
    assert ("p, Holm</th>" in page(result)) is shown


def test_p_is_adjusted_for_all_comparisons_of_a_page():
    one = made.scored(seeds=8, sgd=[0.9] * 8, sgdp=BETTER)
    assert made.row_of(one, "sgdp").comparisons[0].p_holm == 2 / 2**8
    assert one.findings[0].side == "ahead"
    many = adjust_jointly([one] * 7)
    assert [made.row_of(each, "sgdp").comparisons[0].p_holm for each in many] == [14 / 2**8] * 7
    assert {each.findings[0].side for each in many} == {"even"}
    assert many[0].headline == "Accuracy: no difference detected between SGDP and SGD."
    assert " by Holm" not in many[0].findings[0].verdict  # .055 is the least that there can be


def test_p_is_adjusted_over_all_comparisons(study):
    compared = [pair for row in study.rows for pair in row.comparisons]
    assert len(compared) == 3
    assert all(c.p_holm >= c.p for c in compared)
    assert min(c.p_holm for c in compared) == pytest.approx(3 * min(c.p for c in compared))


def test_lower_is_better_for_perplexity():
    result = made.scored(
        metric=made.PERPLEXITY, sgd=[25.0] * 8, sgdp=[24.0, 24.1, 23.9, 24.2, 23.8] * 2
    )
    (finding,) = result.findings
    assert finding.side == "ahead"
    assert finding.verdict.startswith(
        "SGDP is ahead of SGD: perplexity -1.00 (lower is better; 95 % interval -1.11 "
    )
    assert made.row_of(result, "sgdp").comparisons[0].better == 1
    assert result.headline == "Perplexity: SGDP is ahead of SGD."
    assert result.target == 25.0


def test_one_seed_gives_no_verdict():
    result = made.scored(seeds=1, sgd=[0.8], sgdp=[0.99])
    (finding,) = result.findings
    assert finding.side == "unknown"
    assert result.headline == "Accuracy: one seed cannot tell SGDP from SGD."
    assert finding.verdict == (
        "One seed cannot tell SGDP from SGD: accuracy +19.00 points (no interval)."
    )
    assert "one pair of seeds, no interval" in finding.mechanism
    assert "95 %" not in " ".join(result.sentences)
    assert "no interval" in page(result)


def test_diverged_seeds_are_counted_and_named():
    plan = made.plan(PAIR, trials=2, undecayed=False)
    lost = {"diverged": [True, False, True, False, False], "score": [0.1, 0.95, 0.1, 0.95, 0.95]}
    records = made.finished(plan, sgdp=lost)
    result = report(plan, records)
    assert (
        result.findings[0]
        .texts[0]
        .endswith(" Diverged: 2 of 5 seeds of SGDP; each counts as 10.00 %.")
    )
    mine = made.row_of(result, "sgdp")
    assert mine.diverged == 2
    assert mine.score.mean == pytest.approx(0.61)
    assert mine.norm.n == mine.comparisons[0].norm.n == 3
    assert mine.steps.reached == 3


def test_the_headline_groups_optimizers_by_verdict():
    near = [0.9, 0.902, 0.898, 0.901, 0.899, 0.9, 0.902, 0.898]
    best = [x + 0.05 + 0.001 * (i % 2) for i, x in enumerate(near)]
    result = made.scored(**{"adamw": near, "adamp": best, "adamp-matched": best, "sgd": near,
                      "sgdp": near})  # fmt: skip
    assert result.headline == (
        "Accuracy: AdamP is ahead of AdamW; AdamP-matched is ahead of AdamW; "
        "SGDP and SGD are equal within 0.30 points."
    )


def test_without_baselines_nothing_is_compared():
    plan = made.plan(("sgd", "adamw"), trials=2)
    result = report(plan, made.finished(plan))
    assert not result.findings
    assert result.headline.startswith("Nothing is compared")


def test_nothing_is_claimed_if_the_interval_covers_zero():
    """Over many made studies, words, intervals and p agree."""
    for seed in range(30):
        drawn = [0.9 + 0.01 * math.sin(7 * seed + i) for i in range(8)]
        other = [0.905 + 0.01 * math.cos(3 * seed + 2 * i) for i in range(8)]
        result = made.scored(sgd=drawn, sgdp=other)
        against = made.row_of(result, "sgdp").comparisons[0]
        told = against.p_holm <= 0.05 and not against.difference.covers(0)
        text = result.findings[0].verdict
        assert bool(re.match("SGDP is (ahead of|behind) SGD", text)) is told
        assert text.startswith("No difference detected") is not told
