"""What a report says about mechanism, cost, search and progress."""

import math
import re

import made_study as made
import pytest

from tangential_lab.reports import page, report, sentences, standings, tables, write_report
from tangential_lab.reports.rows import Reach
from tangential_lab.statistics import Interval
from tangential_lab.studies import tuning
from tangential_lab.studies.search import Widening
from tangential_lab.training import Curves

PAIR = ("sgd", "sgdp")


def test_mechanism_and_cost_are_the_measured_ratios(study):
    mine, theirs = made.row_of(study, "sgdp"), made.row_of(study, "sgd")
    cost = study.findings[0].cost
    assert f"takes {mine.comparisons[0].step_s.mean:.2f}× as long as one of SGD (" in cost
    assert f"({1000 * mine.step_s.mean:.1f} against {1000 * theirs.step_s.mean:.1f} ms; " in cost
    assert f"SGDP reached {100 * study.target:.2f} % after {mine.steps.mean:.0f} steps (" in cost
    mine, theirs = (next(r for r in study.undecayed if r.optimizer == name) for name in PAIR[::-1])
    mechanism = study.findings[0].mechanism
    lr = f"{mine.point['lr']:.3g}"
    assert mechanism.startswith(
        f"At the same learning rate {lr}, without weight decay: SGDP's weights end "
        f"{mine.norm.mean / theirs.norm.mean:.3f}× as long as SGD's ({mine.norm.mean:.2f} against "
    )
    shares = [f"{100 * r.memory_share.mean:.0f} %" for r in (mine, theirs)]
    assert mechanism.endswith(
        f"momentum causes {shares[0]} of SGDP's norm growth and {shares[1]} of SGD's."
    )


def test_a_ratio_whose_interval_covers_one_is_no_difference():
    ratio = Interval(1.02, 0.98, 1.06, 5)
    rows = made.scored(sgd=[0.9] * 8, sgdp=[0.9] * 8).rows
    mine = rows[1]._replace(comparisons=[rows[1].comparisons[0]._replace(norm=ratio)])
    text = sentences.mechanism(mine, rows[0])
    assert "no difference detected in the final weight norm (" in text
    assert "; ratio 1.02, 95 % interval 0.98 to 1.06); " in text


DIFFERS = "lr × weight decay of SGDP and SGD differs, "


@pytest.mark.parametrize(
    ("mine", "theirs", "unequal"),
    [
        ({"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.1, "weight_decay": 0.0}, ""),
        ({"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.2, "weight_decay": 0.0}, "the settings of"),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"lr": 0.1, "weight_decay": 0.3}, f"{DIFFERS}0.0001 "),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"lr": 0.2, "weight_decay": 5e-4}, ""),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"lr": 0.1, "weight_decay": 0.0}, f"{DIFFERS}0.0001 "),
        ({"lr": 0.1}, {"lr": 0.1}, ""),
        ({"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.0}, "the settings of SGDP and SGD differ"),
        ({"lr": 0.1, "weight_decay": 1e-3}, {"rate": 0.1}, "the settings of SGDP and SGD differ"),
    ],
)
def test_norms_are_compared_only_if_the_settings_allow_it(mine, theirs, unequal):
    assert standings.comparable(mine, theirs) is not bool(unequal)
    result = made.scored(sgd=[0.9] * 8, sgdp=[0.9] * 8)
    rows = [result.rows[0]._replace(point=theirs), result.rows[1]._replace(point=mine)]
    text = sentences.fair_mechanism(result.plan, "sgdp", "sgd", rows, [])
    assert text.startswith("At the same ") if not unequal else text == ""
    why = sentences.unfair_mechanism(rows[1], rows[0])
    assert why.startswith(f"Norms and effective steps are not compared: {unequal}")


def test_norms_without_weight_decay_are_preferred(study):
    bare = [r._replace(norm=Interval(7.0, 6.0, 8.0, 5)) for r in study.undecayed]
    text = sentences.fair_mechanism(study.plan, "sgdp", "sgd", study.rows, bare)
    lr = bare[0].point["lr"]
    assert text.startswith(f"At the same learning rate {lr:.3g}, without weight decay: ")
    assert "(7.00 against 7.00; " in text
    same = [row._replace(point={"lr": 0.1}) for row in study.rows]
    text = sentences.fair_mechanism(study.plan, "sgdp", "sgd", same, [])
    assert text.startswith("At the same settings: ")


def test_a_trial_without_scale_invariant_weights_records_no_norms():
    curves = Curves([], layers=True)
    curves({"a.weight/norm": 2.0, "a.weight/effective_step": 0.1}, 0)
    curves.add(0, 1.0, 0.1)
    nothing = dict.fromkeys(("norm", "effective_step", "memory_share", "layers"))
    assert curves.record() == nothing | {"curves": {"step": [0], "loss": [1.0], "lr": [0.1]}}


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.slow
def test_a_report_has_no_norms_if_no_weight_is_scale_invariant(older, tmp_path):
    """Records of older trials have them, of all matrices."""
    plan = made.plan(PAIR, seeds=3, invariant=[])
    records = made.finished(plan)
    assert all(math.isfinite(record["norm"]) for record in records.values())
    if not older:
        for record in records.values():
            kept = {k: v for k, v in record["curves"].items() if k in ("step", "loss", "lr")}
            record |= {**dict.fromkeys(tables.MECHANISM), "curves": kept, "layers": None}
    result = report(plan, records)
    text = " ".join(result.sentences)
    assert not re.search("norm|effective step|momentum", text)
    drawn = {figure.key for figure in result.figures}
    assert not drawn & {"norm", "effective_step", "angle_rad", "growth", "layers",
                        "undecayed_norm", "undecayed_effective_step"}  # fmt: skip
    text = page(result)
    assert "The audit proved no weight of this model scale-invariant" in text
    assert "final mean norm" not in text
    write_report(result, tmp_path)
    assert not (tmp_path / "layers.parquet").exists()
    for name in ("trials", "curves"):
        columns = (tmp_path / f"{name}.csv").read_text("utf-8").split("\n")[0].split(",")
        assert not {c for c in columns if re.search("norm|effective|memory|growth|angle", c)}


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        (Widening(1, 0, 0), "SGD did best at the lowest learning rate tried."),
        (Widening(0, 1, 0), "SGD did best at the highest learning rate tried."),
        (Widening(0, 0, 1), "SGD did best at the highest weight decay tried."),
    ],
)
def test_a_best_point_at_the_edge_of_the_search_is_named(study, monkeypatch, edge, said):
    monkeypatch.setattr(tuning, "at_edge", lambda plan, records: {"sgd": edge})
    assert report(study.plan, study.records).untuned == f"At the edge, not tuned: {said}"
    assert f"At the edge, not tuned: {said}" in page(report(study.plan, study.records))
    monkeypatch.setattr(tuning, "at_edge", lambda plan, records: {})
    assert not report(study.plan, study.records).untuned


def test_a_target_that_no_seed_reached():
    steps, seconds = Reach(600, 0, 5, math.inf), Reach(7, 0, 5, math.inf)
    assert (
        sentences.reached("SGD", "97 %", steps, seconds)
        == "No seed of SGD reached 97 % within 600 steps (7.00 s)"
    )


def test_no_verdict_before_all_seeds_are_in(study):
    plan = study.plan
    last = max(study.records, key=lambda s: (s.phase == "test", s.optimizer == "adam", s.seed))
    result = report(plan, {s: r for s, r in study.records.items() if s != last})
    assert not result.complete
    assert not result.findings
    assert result.headline == ("107 of 108 trials are done; the verdict follows when all are.")
    text = page(result)
    assert "Provisional" in text
    assert "test 29 of 30" in text
    assert "ahead of" not in text


@pytest.mark.parametrize("count", [0, 1, 5, 9, 60, 100])
def test_every_stage_has_a_page(study, count):
    some = dict(list(study.records.items())[:count])
    assert f"{count} of 108 trials" in page(report(study.plan, some), live=True, version="1")


def test_a_study_without_trials_is_written(study, tmp_path):
    assert write_report(report(study.plan, {}), tmp_path) == [tmp_path / "report.html"]
