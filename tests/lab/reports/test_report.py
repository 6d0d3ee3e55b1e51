"""What a report says is in its numbers, and no more."""

import csv
import json
import math
import re
from itertools import combinations, pairwise

import made_study as made
import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from tangential.files import write_atomically
from tangential_lab import styles
from tangential_lab.reports import (
    html,
    page,
    report,
    sentences,
    standings,
    tables,
    wording,
    write_overview,
    write_report,
)
from tangential_lab.reports.figures import description, stills, study_figures, training
from tangential_lab.reports.overview import steps_to_target
from tangential_lab.reports.standings import Range, Reach
from tangential_lab.reports.statistics import Interval, interval
from tangential_lab.reports.study import adjust_jointly
from tangential_lab.studies import Plan, PlannedOptimizer
from tangential_lab.theory.runs import CONTESTANTS
from tangential_lab.training import DEFAULT_OPTIMIZERS, OPTIMIZERS, USER_COLOURS, Curves, Spec

PAIR = ("sgd", "sgdp")


def scored(*, metric=made.ACCURACY, seeds=8, **scores):
    """A report whose seeds have these scores, a list an optimizer."""
    plan = made.plan(tuple(scores), metric=metric, trials=2, seeds=seeds, undecayed=False)
    return report(
        plan, made.finished(plan, logs=10, **{k: {"score": v} for k, v in scores.items()})
    )


@pytest.fixture(scope="module")
def whole():
    plan = made.plan()
    return report(plan, made.finished(plan))


def read(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def row(found, optimizer):
    return next(row for row in found.rows if row.optimizer == optimizer)


# ---- the verdict


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
    found = scored(seeds=seeds, sgd=[0.9] * seeds, sgdp=mine[:seeds])
    (finding,) = found.findings
    assert finding.side == side
    assert finding.verdict.startswith(words)
    against = row(found, "sgdp").against
    low, high = (f"{100 * x:+.2f}" for x in against.difference[1:3])
    assert f"95 % interval {low} to {high}; {seeds} paired seeds; P(better) " in finding.verdict
    assert against.difference.covers(0) is (side == "even")


def test_with_many_seeds_holms_p_must_be_small_too():
    """Three intervals exclude 0, but p is .031 before and .094 after Holm."""
    ahead = [0.9 + 0.01 * i for i in range(1, 9)]
    mixed = [*([0.899] * 2), *([0.92] * 6)]
    same = {"sgd": [0.9] * 8, "adamw": [0.9] * 8}
    found = scored(seeds=8, **same, sgdp=mixed, adamp=mixed, **{"adamp-matched": mixed})
    for one in ("sgdp", "adamp", "adamp-matched"):
        against = row(found, one).against
        assert not against.difference.covers(0)
        assert against.p < 0.05 < against.p_holm
    assert [finding.side for finding in found.findings] == ["even"] * 3
    assert "p .094 by Holm" in found.findings[0].verdict
    alone = scored(seeds=8, sgd=[0.9] * 8, sgdp=ahead)
    assert alone.findings[0].side == "ahead"
    assert "p .008)" in alone.findings[0].verdict


@pytest.mark.parametrize(
    ("seeds", "shown"), [(3, False), (5, False), (6, False), (7, True), (8, True)]
)
def test_no_p_is_printed_that_could_not_be_small(seeds, shown):
    """Of two comparisons the least p is 2 * 2^(1 - n): .0625 with six seeds, .03125 with seven."""
    scores = {"sgd": [0.8] * seeds, "sgdp": [0.9 + 0.01 * i for i in range(seeds)]}
    found = scored(seeds=seeds, **scores, adamw=[0.8] * seeds, adamp=[0.8] * seeds)
    assert (" by Holm" in found.findings[0].verdict) is shown
    assert ("p, Holm</th>" in page(found)) is shown


def test_p_is_adjusted_for_all_comparisons_of_a_page():
    one = scored(seeds=8, sgd=[0.9] * 8, sgdp=BETTER)
    assert row(one, "sgdp").against.p_holm == 2 / 2**8
    assert one.findings[0].side == "ahead"
    many = adjust_jointly([one] * 7)
    assert [row(each, "sgdp").against.p_holm for each in many] == [14 / 2**8] * 7
    assert {each.findings[0].side for each in many} == {"even"}
    assert many[0].headline == "Accuracy: no difference detected between SGDP and SGD."
    assert " by Holm" not in many[0].findings[0].verdict  # .055 is the least that there can be


def test_lower_is_better_for_perplexity():
    found = scored(metric=made.PERPLEXITY, sgd=[25.0] * 8, sgdp=[24.0, 24.1, 23.9, 24.2, 23.8] * 2)
    (finding,) = found.findings
    assert finding.side == "ahead"
    assert finding.verdict.startswith(
        "SGDP is ahead of SGD: perplexity -1 (lower is better; 95 % interval -1.1"
    )
    assert row(found, "sgdp").against.better == 1
    assert found.headline == "Perplexity: SGDP is ahead of SGD."
    assert found.target == 25.0


def test_one_seed_tells_nothing():
    found = scored(seeds=1, sgd=[0.8], sgdp=[0.99])
    (finding,) = found.findings
    assert finding.side == "unknown"
    assert found.headline == "Accuracy: one seed cannot tell SGDP from SGD."
    assert finding.verdict == (
        "One seed cannot tell SGDP from SGD: accuracy +19.00 points (no interval)."
    )
    assert "one pair of seeds, no interval" in finding.mechanism
    assert "95 %" not in " ".join(found.sentences)
    assert "no interval" in page(found)


def test_diverged_seeds_are_counted_and_named():
    plan = made.plan(PAIR, trials=2, undecayed=False)
    lost = {"diverged": [True, False, True, False, False], "score": [0.1, 0.95, 0.1, 0.95, 0.95]}
    records = made.finished(plan, sgdp=lost)
    found = report(plan, records)
    assert (
        found.findings[0]
        .texts[0]
        .endswith(" Diverged: 2 of 5 seeds of SGDP; each counts as 10.00 %.")
    )
    mine = row(found, "sgdp")
    assert mine.diverged == 2
    assert mine.score.mean == pytest.approx(0.61)
    assert mine.norm.n == mine.against.norm.n == 3
    assert mine.steps.reached == 3


def test_headline_groups_optimizers_by_what_is_seen():
    near = [0.9, 0.902, 0.898, 0.901, 0.899, 0.9, 0.902, 0.898]
    best = [x + 0.05 + 0.001 * (i % 2) for i, x in enumerate(near)]
    found = scored(**{"adamw": near, "adamp": best, "adamp-matched": best, "sgd": near,
                      "sgdp": near})  # fmt: skip
    assert found.headline == (
        "Accuracy: AdamP is ahead of AdamW; AdamP-matched is ahead of AdamW; "
        "no difference detected between SGDP and SGD."
    )


def test_without_baselines_nothing_is_compared():
    plan = made.plan(("sgd", "adamw"), trials=2)
    found = report(plan, made.finished(plan))
    assert not found.findings
    assert found.headline.startswith("Nothing is compared")


def test_p_is_adjusted_over_all_comparisons(whole):
    compared = [row.against for row in whole.rows if row.against]
    assert len(compared) == 3
    assert all(c.p_holm >= c.p for c in compared)
    assert min(c.p_holm for c in compared) == pytest.approx(3 * min(c.p for c in compared))


def test_mechanism_and_cost_are_the_measured_ratios(whole):
    mine, theirs = row(whole, "sgdp"), row(whole, "sgd")
    cost = whole.findings[0].cost
    assert f"takes {mine.against.step_s.mean:.2f}× as long as one of SGD (" in cost
    assert f"({1000 * mine.step_s.mean:.1f} against {1000 * theirs.step_s.mean:.1f} ms; " in cost
    assert f"SGDP reached {100 * whole.target:.2f} % after {mine.steps.mean:.0f} steps (" in cost
    mine, theirs = (next(r for r in whole.undecayed if r.optimizer == name) for name in PAIR[::-1])
    mechanism = whole.findings[0].mechanism
    assert mechanism.startswith(
        "At the same learning rate 0.0632, without weight decay: SGDP's weights end "
        f"{mine.norm.mean / theirs.norm.mean:.3f}× as long as SGD's ({mine.norm.mean:.2f} against "
    )
    shares = [f"{100 * r.memory_share.mean:.0f} %" for r in (mine, theirs)]
    assert mechanism.endswith(
        f"momentum causes {shares[0]} of SGDP's norm growth and {shares[1]} of SGD's."
    )


def test_a_ratio_whose_interval_covers_one_is_no_difference():
    ratio = Interval(1.02, 0.98, 1.06, 5)
    rows = scored(sgd=[0.9] * 8, sgdp=[0.9] * 8).rows
    mine = rows[1]._replace(against=rows[1].against._replace(norm=ratio))
    text = sentences.mechanism(mine, rows[0])
    assert "no difference detected in the final weight norm (" in text
    assert "; ratio 1.02, 95 % interval 0.980 to 1.06); " in text


@pytest.mark.parametrize(
    ("mine", "theirs", "allowed"),
    [
        ({"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.1, "weight_decay": 0.0}, True),
        ({"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.2, "weight_decay": 0.0}, False),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"lr": 0.1, "weight_decay": 0.3}, False),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"lr": 0.2, "weight_decay": 5e-4}, True),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"lr": 0.1, "weight_decay": 0.0}, False),
        ({"lr": 0.1}, {"lr": 0.1}, True),
        ({"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.0}, False),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"rate": 0.1}, False),
    ],
)
def test_norms_are_compared_only_where_the_settings_allow_it(mine, theirs, allowed):
    assert standings.comparable(mine, theirs) is allowed
    rows = scored(sgd=[0.9] * 8, sgdp=[0.9] * 8).rows
    rows = [rows[0]._replace(point=theirs), rows[1]._replace(point=mine)]
    assert bool(sentences.fair_mechanism("sgdp", rows, [])) is allowed


def test_norms_without_decay_come_first(whole):
    bare = [r._replace(norm=Interval(7.0, 6.0, 8.0, 5)) for r in whole.undecayed]
    text = sentences.fair_mechanism("sgdp", whole.rows, bare)
    assert text.startswith("At the same learning rate 0.0632, without weight decay: ")
    assert "(7.00 against 7.00; " in text
    assert sentences.fair_mechanism("sgdp", whole.rows, []).startswith("At the same settings: ")


def test_a_trial_without_invariant_weights_records_no_norms():
    curves = Curves([], layers=True)
    curves({"a.weight/norm": 2.0, "a.weight/effective_step": 0.1}, 0)
    curves.add(0, 1.0, 0.1)
    nothing = dict.fromkeys(("norm", "effective_step", "memory_share", "layers"))
    assert curves.record() == nothing | {"curves": {"step": [0], "loss": [1.0], "lr": [0.1]}}


@pytest.mark.parametrize("older", [True, False])
def test_nothing_is_said_of_norms_where_no_weight_is_invariant(older, tmp_path):
    """Though the records of older trials have them, of all matrices."""
    plan = made.plan(PAIR, seeds=3, invariant=[])
    records = made.finished(plan)
    assert all(math.isfinite(record["norm"]) for record in records.values())
    if not older:
        for record in records.values():
            kept = {k: v for k, v in record["curves"].items() if k in ("step", "loss", "lr")}
            record |= {**dict.fromkeys(tables.MECHANISM), "curves": kept, "layers": None}
    found = report(plan, records)
    said = " ".join(found.sentences)
    assert not re.search("norm|effective step|momentum", said)
    drawn = {figure.key for figure in found.figures}
    assert not drawn & {"norm", "effective_step", "angle_rad", "growth", "layers",
                        "undecayed_norm", "undecayed_effective_step"}  # fmt: skip
    text = page(found)
    assert "The audit proved no weight of this model scale-invariant" in text
    assert "final mean norm" not in text
    write_report(found, tmp_path)
    assert not (tmp_path / "layers.parquet").exists()
    for name in ("trials", "curves"):
        columns = read(tmp_path / f"{name}.csv")[0]
        assert not {c for c in columns if re.search("norm|effective|memory|growth|angle", c)}


# ---- numbers


def test_no_interval_of_a_share_goes_beyond_it():
    high, low = [0.999, 1.0, 0.996, 1.0, 0.97], [0.001, 0.0, 0.03, 0.002, 0.0]
    found = scored(seeds=5, sgd=high, sgdp=low)
    assert row(found, "sgd").score.high == 1
    assert row(found, "sgd").score.low == pytest.approx(interval(high).low)
    assert row(found, "sgdp").score.low == 0
    assert interval(high).high > 1
    assert interval(low).low < 0
    text = page(found)
    assert not re.search(r"to 10[0-9]\.[0-9]*[1-9]|small>\(-", text)
    other = scored(metric=made.PERPLEXITY, seeds=5, sgd=[25.0, 1, 1, 1, 1], sgdp=[1.0] * 5)
    assert row(other, "sgd").score.low < 0  # no share: as it is


def test_other_metrics_have_the_range_of_their_seeds():
    plan = made.plan(PAIR, trials=0, seeds=3, undecayed=False)
    records = made.finished(plan)
    for spec, record in records.items():
        record["metrics"] = {"recall": 0.97 + 0.01 * (spec.seed - 1000)}
    found = report(plan, records)
    assert row(found, "sgd").metrics["recall"] == pytest.approx((0.98, 0.97, 0.99))
    assert "0.9800 <small>(0.9700 to 0.9900)</small>" in page(found)
    assert wording.near_range(Range.of([math.nan])) == ("?", "", "")


@pytest.mark.parametrize(
    ("found", "texts"),
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
def test_means_have_as_many_digits_as_they_deserve(found, texts):
    assert wording.near(found) == texts


def test_a_tiny_share_is_none():
    tiny = Interval(3.14e-7, 2.46e-7, 3.8e-7, 5)
    assert wording.percent(tiny) == ("0.0", "", "")
    assert wording.share(tiny.mean) == "none"
    assert wording.percent(Interval(0.93, 0.92, 0.94, 5)) == ("93.0", "92.0", "94.0")


# ---- the search


@pytest.mark.parametrize(
    ("tried", "said"),
    [
        ([(0.1, 1e-4, 0.5), (0.2, 1e-4, 0.9), (0.3, 1e-4, 0.7)], ""),
        ([(0.1, 1e-4, 0.9), (0.2, 1e-4, 0.8), (0.3, 1e-4, 0.7)], "the lowest for SGD"),
        ([(0.1, 1e-4, 0.5), (0.2, 1e-4, 0.8), (0.3, 1e-4, 0.9)], "the highest for SGD"),
        # the lower learning rate was tried with a decay that stops learning
        ([(0.1, 9e-2, 0.1), (0.2, 1e-4, 0.9), (0.3, 2e-4, 0.7)], "the lowest for SGD"),
        ([(0.1, 9e-2, 0.1), (0.2, 1e-4, 0.9)], "the only one for SGD"),
        ([(0.1, 0.0, 0.5), (0.2, 0.0, 0.9), (0.3, 0.0, 0.7)], ""),
    ],
)
def test_a_best_point_at_the_edge_of_the_search_is_named(tried, said):
    plan = made.plan(PAIR, trials=len(tried), undecayed=False)
    (spec, record), *_ = made.finished(plan).items()
    records = {
        spec._replace(point=(("lr", lr), ("weight_decay", decay))): record | {"score": score}
        for lr, decay, score in tried
    }
    text = sentences.untuned(plan, records)
    assert text.endswith(f"the best is {said}.") if said else not text


# ---- the common target


def test_target_is_the_worst_optimizers_mean():
    found = scored(seeds=5, sgd=[0.8, 0.82, 0.84, 0.8, 0.84], sgdp=[0.9] * 5)
    assert found.target == pytest.approx(0.82)


def test_seeds_that_never_get_there_count_as_long_as_they_ran():
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
    found = report(plan, records)
    assert found.target == pytest.approx(0.8)
    assert row(found, "sgdp").steps == pytest.approx(Reach((15 + 10) / 2, 2, 2, 12.5))
    assert row(found, "sgd").steps == pytest.approx(Reach((20 + 17.5) / 2, 1, 2, math.inf))
    assert row(found, "sgd").seconds == pytest.approx(Reach(1.875, 1, 2, math.inf))
    assert found.findings[0].cost.endswith(
        "SGDP reached 80.00 % after 12.5 steps (1.25 s). "
        "1 of 2 seeds of SGD reached 80.00 %; mean at least 18.8 steps (1.88 s)."
    )
    assert "≥ 18.8" in page(found)


def test_a_target_nobody_reached():
    steps, seconds = Reach(600, 0, 5, math.inf), Reach(7, 0, 5, math.inf)
    assert (
        sentences.reached("SGD", "97 %", steps, seconds)
        == "No seed of SGD reached 97 % within 600 steps (7.00 s)"
    )


# ---- while it runs


def test_no_verdict_before_all_seeds_are_in(whole):
    plan = whole.plan
    last = max(whole.records, key=lambda s: (s.phase == "test", s.optimizer == "adam", s.seed))
    found = report(plan, {s: r for s, r in whole.records.items() if s != last})
    assert not found.complete
    assert not found.findings
    assert found.headline == (
        "107 of 108 trials are done; no verdict before every optimizer has all its seeds."
    )
    text = page(found)
    assert "Provisional" in text
    assert "test 29 of 30" in text
    assert "ahead of" not in text


@pytest.mark.parametrize("count", [0, 1, 5, 9, 60, 100])
def test_every_stage_has_a_page(whole, count):
    some = dict(list(whole.records.items())[:count])
    assert f"{count} of 108 trials" in page(report(whole.plan, some), live=True, version="1")


def test_a_study_without_trials_is_written(whole, tmp_path):
    assert write_report(report(whole.plan, {}), tmp_path) == [tmp_path / "report.html"]


# ---- the figures


def test_every_figure_is_there(whole):
    keys = [figure.key for figure in whole.figures]
    assert keys == [
        *("score", "score_time", "loss", "norm", "effective_step", "angle_rad", "growth"),
        *("layers", "undecayed_norm", "undecayed_effective_step", "tuning", "budget"),
    ]
    for figure in whole.figures:
        assert figure.description
        assert all(panel.x.title and panel.y.title for panel in figure.panels)


def test_a_band_is_mean_lowest_and_highest():
    found = description.band("a", [([0, 1], [1.0, 2.0]), ([0, 1], [3.0, 6.0])])
    assert found == description.Series("a", [0, 1], [2.0, 4.0], [1.0, 2.0], [3.0, 6.0])
    assert description.band("a", [([0, 1], [1.0, math.nan])]).y == [1.0]
    assert description.band("a", [([0, 1], [0.0, 1.0])], positive=True).x == [1]


def test_long_lines_are_thinned_by_means():
    found = description.band("a", [(range(1000), [float(i) for i in range(1000)])])
    assert len(found.x) == description.LINE_POINTS
    assert found.y[0] == found.x[0] == 2.0


def test_growth_is_summed_over_all_steps():
    record = {"curves": {"step": [9, 19, 39], "growth_step": [0.1, math.nan, 0.2]}}
    assert description.summed(record, "growth_step") == ([9, 19, 39], [1.0, 1.0, 5.0])


def test_diverged_trials_are_not_drawn_but_crossed():
    plan = made.plan(PAIR, trials=5, undecayed=False)
    records = made.finished(plan, sgd={"diverged": [True] * 5, "score": [0.1] * 5})
    found = {figure.key: figure for figure in study_figures(plan, records)}
    assert [s.name for s in found["norm"].panels[0].series] == ["sgdp"]
    assert [s.diverged for s in found["tuning"].panels[0].series] == [[3], [3]]
    assert all(s.best != 3 for s in found["tuning"].panels[0].series)


def test_heat_maps_share_their_colours_and_stay_small():
    names = [f"layer{i}.weight" for i in range(160)]
    plan = made.plan(seeds=1, trials=0, undecayed=False)
    records = made.finished(plan, names=names, logs=200)
    first = {spec.optimizer: [record] for spec, record in records.items()}
    figure = training.layer_figure(first)
    assert len({(p.heat.low, p.heat.high) for p in figure.panels}) == 1
    assert sum(len(p.heat.layers) * len(p.heat.x) for p in figure.panels) <= training.CELLS
    assert html.height_px(figure) == html.HEAT_HEIGHTS_PX[1]


def test_what_is_not_known_is_not_drawn(whole):
    records = {
        spec: {**r, "layers": None, "curves": r["curves"] | {"growth_memory": [math.nan] * 60}}
        for spec, r in whole.records.items()
    }
    found = {figure.key: figure for figure in study_figures(whole.plan, records)}
    assert "layers" not in found
    assert [panel.title for panel in found["growth"].panels] == [
        "by the length of the steps",
        "by weight decay",
    ]


def test_a_optimizer_has_its_colour_and_another_for_dark_paper(whole):
    for name, optimizer in whole.plan.optimizers.items():
        assert whole.styles[name].colour == optimizer.colour
        assert styles.on_dark(optimizer.colour) == styles.on_dark(styles.on_dark(optimizer.colour))
    assert styles.on_dark("#332288") != "#332288"


COLOURS = [
    *(optimizer.colour for optimizer in OPTIMIZERS.values()),
    *USER_COLOURS,
    *(one.colour for some in CONTESTANTS.values() for one in some.values()),
]
BLIND = {  # what is seen of linear red, green and blue (Machado et al. 2009, severity 1)
    "nobody": np.eye(3),
    "red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "green": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "blue": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def test_contrast_is_that_of_wcag():
    assert styles.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert styles.contrast("#ffffff", "#56b4e9") == pytest.approx(2.31, abs=0.005)


@pytest.mark.parametrize("colour", sorted(set(COLOURS)))
def test_lines_can_be_seen_on_either_paper(colour):
    assert styles.contrast(colour, "#ffffff") >= 3
    assert styles.on_light(colour) == colour
    assert styles.contrast(styles.on_dark(colour), "#15181c") >= 3


@pytest.mark.parametrize("colour", ["#56b4e9", "#e69f00", "#ffffff", "#ffff00"])
def test_a_users_faint_colour_is_darkened(colour):
    plan = made.plan({"x": PlannedOptimizer("m:f", "", None, colour, made.SPACES["sgd"], {})})
    assert styles.contrast(report(plan, {}).styles["x"].colour, "#ffffff") >= 3


def test_an_old_study_is_drawn_in_the_colours_of_today():
    faint = made.OPTIMIZERS["sgd"]._replace(colour="#56b4e9")
    plan = made.plan({"sgd": faint, "sgdp": made.OPTIMIZERS["sgdp"]})
    assert report(plan, {}).styles["sgd"].colour == OPTIMIZERS["sgd"].colour


@pytest.mark.parametrize("cones", BLIND)
@pytest.mark.parametrize("paper", ["light", "dark"])
def test_the_default_optimizers_are_told_apart(cones, paper):
    """At least 20 units of CIELAB: 2.3 are just seen."""
    drawn = [OPTIMIZERS[name].colour for name in DEFAULT_OPTIMIZERS]
    drawn = [styles.on_dark(colour) for colour in drawn] if paper == "dark" else drawn
    seen = [lab(np.asarray(BLIND[cones]) @ linear(colour)) for colour in drawn]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


def linear(colour):
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    t = np.asarray(xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_a_colour_that_is_none_is_refused():
    plan = made.plan({"x": PlannedOptimizer("", "", None, "red;}", made.SPACES["sgd"], {})})
    with pytest.raises(ValueError, match=r"plan has a colour 'red;}', expected # and six digits"):
        Plan.of(plan.text())  # as every report reads it


def test_pictures_are_drawn_and_the_same_again(whole, tmp_path):
    kinds = [f for f in whole.figures if f.key in ("norm", "layers", "tuning")]
    for figure in kinds:
        png, svg = stills.draw(figure, whole.styles, tmp_path)
        picture = Image.open(png)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
        assert svg.read_text().lstrip().startswith("<?xml")
        before = svg.read_bytes()
        assert stills.draw(figure, whole.styles, tmp_path)[1].read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2 * len(kinds)


def test_marks_of_logarithmic_axes_do_not_run_into_each_other(whole):
    from matplotlib import rc_context

    figure = next(figure for figure in whole.figures if figure.key == "tuning")
    with rc_context(stills.STYLE):
        drawn = stills._canvas(figure, whole.styles)
        drawn.draw_without_rendering()
        for place in drawn.axes:
            boxes = [mark.get_window_extent() for mark in place.get_xticklabels()]
            seen = [box for box in boxes if box.width]
            assert len(seen) > 3
            assert all(a.x1 < b.x0 for a, b in pairwise(seen))


def test_names_in_pictures_are_no_mathematics(whole, tmp_path):
    plan = made.plan({"_$\\frac$": made.OPTIMIZERS["sgd"]}, task="$", trials=3, undecayed=False)
    found = report(plan, made.finished(plan, names=["$\\x$", "_"]))
    for figure in found.figures:
        assert len(stills.draw(figure, found.styles, tmp_path)) == 2


# ---- the files


def cell(value):
    """What the CSV has for a value."""
    if isinstance(value, dict):
        return json.dumps(value)
    return {True: "true", False: "false", None: ""}.get(value, value)


def same(text, value):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(text) == value or (math.isnan(float(text)) and math.isnan(value))
    return text == cell(value)


def test_every_cell_is_that_of_its_record(whole, tmp_path):
    """Each column has one source, and each number of a record one column."""
    write_report(whole, tmp_path)
    trials = read(tmp_path / "trials.csv")
    numbers = ("score", "loss", "diverged", "steps", "norm", "effective_step", "memory_share",
               "step_s", "optimizer_s")  # fmt: skip
    for (spec, record), line in zip(whole.records.items(), trials, strict=True):
        expected = {
            "task": "digits",
            "options": {"preset": "mini"},
            "optimizer": spec.optimizer,
            "phase": spec.phase,
            "seed": spec.seed,
            **spec.values,
            **{name: record[name] for name in numbers},
            **{f"metric_{name}": value for name, value in record["metrics"].items()},
            **{f"trial_{name}_s": value for name, value in record["seconds"].items()},
            **record["provenance"],
        }
        assert line.keys() == expected.keys()
        assert all(same(line[name], value) for name, value in expected.items())
    for table, part in (("curves", "curves"), ("scores", "scores")):
        lines = iter(read(tmp_path / f"{table}.csv"))
        for spec, record in whole.records.items():
            for i in range(len(record[part]["step"])):
                line = next(lines)
                expected = {
                    "task": "digits",
                    "options": {"preset": "mini"},
                    "optimizer": spec.optimizer,
                    "phase": spec.phase,
                    "seed": spec.seed,
                    **spec.values,
                    **{"lr_now" if k == "lr" else k: v[i] for k, v in record[part].items()},
                }
                assert line.keys() == expected.keys()
                assert all(same(line[name], value) for name, value in expected.items())
        assert next(lines, None) is None


def test_files(whole, tmp_path):
    paths = write_report(whole, tmp_path)
    assert paths[0] == tmp_path / "report.html"
    assert paths[0].stat().st_size < 6e6
    assert all(path.stat().st_size for path in paths)
    trials = read(tmp_path / "trials.csv")
    assert len(trials) == len(whole.records) == whole.plan.size
    (first,) = [t for t in trials if t["optimizer"] == "sgdp" and t["seed"] == "1000"
                and t["phase"] == "test"]  # fmt: skip
    spec = next(s for s in whole.records if s[:3] == ("sgdp", "test", 1000))
    assert float(first["score"]) == whole.records[spec]["score"]
    assert float(first["lr"]) == spec.values["lr"]
    assert json.loads(first["seeds"]) == {"model": 1000, "data": 1000}
    curves = parquet.read_table(tmp_path / "curves.parquet")
    assert curves.num_rows == 60 * whole.plan.size
    layers = parquet.read_table(tmp_path / "layers.parquet")
    assert layers.num_rows == 60 * len(made.LAYERS) * 2 * 5 * len(whole.plan.optimizers)


def test_spaces_of_other_names_and_names_that_are_taken(tmp_path):
    taken = ("steps", "data", "seed", "trial_step_s", "metric_accuracy")
    space = {"lr": (1e-3, 1.0), **dict.fromkeys(taken, (1.0, 9.0))}
    own = PlannedOptimizer("m:f", "mine", "sgd", "#332288", space, {"lr": 0.1, "steps": 3.0})
    plan = made.plan({"sgd": made.OPTIMIZERS["sgd"], "own": own}, trials=3, undecayed=False)
    tables.write(plan, made.finished(plan), tmp_path)
    table = parquet.read_table(tmp_path / "trials.parquet").to_pylist()
    for name in taken:
        assert {line[f"space_{name}"] for line in table if line["optimizer"] == "sgd"} == {None}
        mine = [line[f"space_{name}"] for line in table if line["optimizer"] == "own"]
        assert all(1 <= value <= 9 for value in mine)
    assert {line["steps"] for line in table} == {600}


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with write_atomically(path) as file:
        file.write("old ‖w‖\n")

    def broken():
        with write_atomically(path) as file:
            file.write("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert path.read_bytes() == "old ‖w‖\n".encode()
    assert list(tmp_path.iterdir()) == [path]


# ---- several studies


def test_studies_together(whole, tmp_path):
    plan = made.plan(metric=made.PERPLEXITY, task="language", undecayed=False, trials=1)
    other = report(plan, made.finished(plan))
    short = made.plan(task="audio")
    paths = write_overview([whole, other, report(short, {})], tmp_path)
    text = paths[0].read_text()
    assert paths[0] == tmp_path / "report.html"
    assert (tmp_path / "figures" / "profile.svg").exists()
    assert "SGDP against SGD: leans ahead in 2 of 2 studies." in text
    assert "at the edge of its search: language, preset mini.</p>" in text
    assert "some seeds are not finished: audio" in text
    rows = read(tmp_path / "studies.csv")
    assert len(rows) == 2 * len(whole.rows)
    assert {r["study"] for r in rows} == {"digits, preset mini", "language, preset mini"}


def test_optimizers_that_are_not_in_every_study_are_left_out_of_the_profile(whole, tmp_path):
    plan = made.plan(PAIR, task="other")
    text = write_overview([whole, report(plan, made.finished(plan))], tmp_path)[0].read_text()
    assert "Left out, because not in every study: Adam, AdamW, AdamP, AdamP-matched." in text


def test_a_study_is_solved_where_more_than_half_of_the_seeds_get_there(whole):
    def steps(there):
        reach = Reach(90.0, there, 5, sorted([50.0] * there + [math.inf] * (5 - there))[2])
        return steps_to_target(whole.rows[0]._replace(steps=reach))

    assert steps(3) == 50
    assert math.isnan(steps(2))


def test_studies_of_one_name_are_numbered(whole, tmp_path):
    text = write_overview([whole, whole], tmp_path)[0].read_text()
    assert "digits, preset mini (1)" in text
    assert "digits, preset mini (2)" in text


# ---- what holds of the whole


def test_nothing_is_claimed_where_the_interval_covers_zero():
    """Over many made studies, words, intervals and p agree."""
    for seed in range(30):
        drawn = [0.9 + 0.01 * math.sin(7 * seed + i) for i in range(8)]
        other = [0.905 + 0.01 * math.cos(3 * seed + 2 * i) for i in range(8)]
        found = scored(sgd=drawn, sgdp=other)
        against = row(found, "sgdp").against
        told = against.p_holm <= 0.05 and not against.difference.covers(0)
        text = found.findings[0].verdict
        assert bool(re.match("SGDP is (ahead of|behind) SGD", text)) is told
        assert text.startswith("No difference detected") is not told


def test_report_seeds_are_paired_whatever_their_order(whole):
    turned = dict(reversed(whole.records.items()))
    assert report(whole.plan, turned).rows == whole.rows


def test_standings_of_a_optimizer_without_its_baselines_seeds():
    plan = made.plan(PAIR, undecayed=False)
    records = {s: r for s, r in made.finished(plan).items() if s.optimizer == "sgdp"}
    (alone,) = standings.rows(plan, records)
    assert alone.against is None
    assert isinstance(next(iter(records)), Spec)
