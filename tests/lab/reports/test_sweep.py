"""Sweeps, runner-ups, and arms that cannot differ: what a report says of them."""

import made_study as made
import pytest
from planned import scored

from tangential_lab.cli.study.report import print_report
from tangential_lab.reports import page, report, standings
from tangential_lab.studies import schedule

PAIR = ("sgd", "sgdp")
GRID = {
    name: made.OPTIMIZERS[name]._replace(
        space=None, published={"lr": 0.1, "weight_decay": 1e-4}, decay_multiplier=10.0
    )
    for name in PAIR
}


def sweep(seeds=3, **scores):
    """The report of a sweep; `scores` maps optimizers to functions of a spec."""
    plan = made.plan(GRID, trials=9, tuning_seeds=seeds, sweep=True, seeds=0, undecayed=False)
    records = made.finished(plan, logs=4)
    for spec in records:
        if spec.optimizer in scores:
            records[spec] |= {"score": scores[spec.optimizer](spec)}
    return report(plan, records)


def test_a_seeds_score_is_that_of_the_point_that_is_best_on_the_other_seeds():
    """One point is best on seeds 1 and 2, another one by luck on seed 0."""

    def score(spec):
        if spec.values["lr"] < 0.05:
            return 1.0 if spec.seed == 0 else 0.3
        return 0.9 + 0.01 * spec.seed if spec.values["lr"] == 0.1 else 0.5

    result = sweep(sgd=score)
    trials = standings.trials_of(result.plan, result.records)["sgd", "test"]
    assert {seed: record["score"] for seed, record in trials.items()} == {
        0: 0.9, 1: 0.91, 2: 0.92
    }  # fmt: skip
    assert made.row_of(result, "sgd").score.mean == pytest.approx(0.91)
    assert made.row_of(result, "sgd").seeds == 3


def test_a_sweep_compares_mechanisms_at_the_published_rate_without_decay():
    result = sweep()
    for row in result.undecayed:
        assert row.point == {"lr": 0.1, "weight_decay": 0.0}
        assert row.seeds == 3
    (text,) = result.mechanisms
    assert text.startswith("At the same learning rate 0.1, without weight decay: SGDP's weights")


def test_the_page_of_a_sweep_shows_curves_before_the_verdict():
    text = page(sweep())
    order = ["Same learning rate, no weight decay", "Accuracy over the search", "<h2>Verdict"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    for words in (
        "Validation score of every optimizer at the point that is best on the other seeds",
        "A sweep: every optimizer ran at the same 9 points on 3 seeds",
    ):
        assert words in text
    assert "test split" not in text


def test_the_curves_have_a_panel_per_decay_with_all_learning_rates():
    figures = {figure.key: figure for figure in sweep().figures}
    rates = figures["rates"]
    assert [panel.title for panel in rates.panels] == [
        "no weight decay", "decay over the run 0.3", "decay over the run 3"
    ]  # fmt: skip
    for panel in rates.panels:
        for series in panel.series:
            assert list(series.x) == pytest.approx([0.1 / 3, 0.1, 0.3], rel=1e-3)
            assert all(
                a <= b <= c for a, b, c in zip(series.low, series.y, series.high, strict=True)
            )
    (decays,) = figures["decays"].panels
    assert [list(series.x) for series in decays.series] == [[0, 0.3, 3]] * 2
    (rotation,) = figures["rotation"].panels
    assert [len(series.x) for series in rotation.series] == [9, 9]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_mechanism_then_curves_then_verdict(width, capsys):
    from rich.console import Console

    print_report(sweep(), Console(width=width))
    text = capsys.readouterr().out
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    order = ["At the published learning", "momentum causes", "by learning rate", "no difference"]
    places = [words.index(some) for some in order]
    assert places == sorted(places)


def test_the_next_command_has_the_sweeps_task_options_and_optimizers():
    before = sweep()
    mine = GRID["sgdp"]._replace(source="my own.py:make")
    plan = before.plan._replace(
        options={"preset": "mini", "norm": True}, optimizers={"sgd": GRID["sgd"], "mine": mine}
    )
    records = made.finished(plan, logs=4)
    command, *_ = report(plan, records).next_steps
    assert command == (
        "tangential compare digits --set preset=mini norm=yes --epochs 30 --trials 9 --seeds 8 "
        "--optimizers sgd --optimizer 'mine=my own.py:make'"
    )


def test_names_that_look_like_markup_are_printed_as_they_are(capsys):
    from rich.console import Console

    plan = sweep().plan._replace(optimizers={"[red]x": GRID["sgd"]})
    print_report(report(plan, made.finished(plan, logs=4)), Console(width=120))
    assert capsys.readouterr().out.count("[red]x") >= 3 + 3


# ---- runner-ups


def study_with_runner_ups(gap_of_runner_up):
    """SGDP beats SGD's best point by 0.05; SGD has another point that tuning cannot tell apart."""
    plan = made.plan(GRID, trials=3, tuning_seeds=2, seeds=8, undecayed=False)
    records = {}
    while specs := schedule.missing(plan, records):
        for spec in specs:
            score = 0.8 + 0.001 * (spec.seed % 4)
            if spec.phase == "tune":  # the middle is best, the others differ by noise
                score += 0.01 * (spec.seed if spec.values["lr"] == 0.1 else -spec.seed) / 10
                score -= 0.0002 * (spec.values["lr"] != 0.1)
            elif spec.optimizer == "sgdp":
                score += 0.05
            elif spec.phase == "runner-up":
                score += 0.05 - gap_of_runner_up
            score += 0.0001 * ((spec.seed * 7 + (spec.optimizer == "sgdp")) % 3)
            records[spec] = scored(score) | TEMPLATE | {"score": score}
    return report(plan, records)


TEMPLATE = next(
    iter(made.finished(made.plan(PAIR, trials=0, seeds=1, undecayed=False), logs=4).values())
)


def test_a_claim_must_also_beat_the_runner_ups():
    result = study_with_runner_ups(0.04)
    assert {s.optimizer for s in result.records if s.phase == "runner-up"} == {"sgd"}
    (finding,) = result.findings
    assert finding.side == "ahead"
    assert "SGD's tuning seeds cannot tell its best point from" in finding.verdict
    assert "with the best of them the difference is +4.0" in finding.verdict


@pytest.mark.parametrize("gap", [0.0, -0.02])
def test_a_runner_up_that_is_as_good_or_better_takes_the_claim_back(gap):
    result = study_with_runner_ups(gap)
    (finding,) = result.findings
    assert finding.side == "even"
    assert finding.verdict.startswith("No difference detected between SGDP and SGD")


# ---- arms that cannot differ


@pytest.mark.parametrize(("decay", "compared"), [(1e-6, False), (1.0, True)])
def test_an_arm_about_decay_is_compared_only_if_decay_does_something(decay, compared):
    at = {"space": None, "published": {"lr": 0.01, "weight_decay": decay}}
    names = ("adamw", "adamp", "adamp-matched")
    optimizers = {name: made.OPTIMIZERS[name]._replace(**at) for name in names}
    optimizers["adamp-matched"] = optimizers["adamp-matched"]._replace(differs_by_decay=True)
    plan = made.plan(optimizers, trials=0, seeds=8, undecayed=False)
    result = report(plan, made.finished(plan, logs=4))
    assert bool(made.row_of(result, "adamp-matched").comparisons) is compared
    assert made.row_of(result, "adamp").comparisons
    assert bool(result.uncompared) is not compared
    assert compared or "Not compared: AdamP-matched" in page(result)
