"""An analysis of made-up trials: its sentences, its figure, its page, and the terminal."""

import math

import made_study as made
import pytest
from rich.console import Console

from tangential_lab.cli.study.report import print_report
from tangential_lab.reports import analysis, page, report
from tangential_lab.reports.figures import analysis_figure
from tangential_lab.training import ANALYSED_OPTIMIZERS, OPTIMIZERS

LR = {"sgd": 0.1, "adam": 0.01}


def planned(names=ANALYSED_OPTIMIZERS, *, decay=0.01, seeds=3, **own):
    optimizers = {
        name: made.OPTIMIZERS["sgd"]._replace(
            baseline=OPTIMIZERS[name].baseline(names),
            colour=OPTIMIZERS[name].colour,
            space=None,
            published={"lr": LR[OPTIMIZERS[name].family], "weight_decay": decay},
            decay_multiplier=OPTIMIZERS[name].decay_multiplier,
        )
        for name in names
    }
    settings = {"trials": 0, "analysis": True, "undecayed": decay > 0} | own
    return made.plan(optimizers, seeds=seeds, **settings)


def analysed(norms, plan=None, *, decayed=1.0, steps=None):
    """A report in which the weights of an optimizer end with this norm, seed by seed.

    `decayed` multiplies the norms of the trials with weight decay, `steps` has effective steps.
    """
    plan = plan or planned(tuple(norms))
    records = made.finished(plan, logs=12)
    for spec, record in records.items():
        seed = spec.seed - 1000
        factor = decayed if plan.undecayed and spec.phase == "test" else 1.0
        record["norm"] = factor * norms[spec.optimizer] * (1 + 0.01 * seed)
        if steps:
            record["effective_step"] = steps[spec.optimizer] * (1 + 0.01 * seed)
        record["memory_share"] = 0.9 if spec.optimizer in ("sgd", "adam") else 0.0
    return report(plan, records)


NORMS = {"sgd-plain": 2.0, "sgd": 6.0, "sgdp": 3.0, "adam": 8.0, "adamp": 2.0}


# ---- sentences


def test_the_headline_is_the_ratio_of_final_norms():
    assert analysed(NORMS).headline == (
        "Weight norms at the end, without weight decay: SGD 3.00 times SGD-plain's; SGDP 0.500 "
        "times SGD's; AdamP 0.250 times Adam's."
    )


def test_the_sentences_have_the_measured_ratios_norms_and_causes():
    steps = {"sgd-plain": 0.01, "sgd": 0.02, "sgdp": 0.04, "adam": 0.01, "adamp": 0.03}
    momentum, sgdp, adamp, decay, verdict = analysed(NORMS, steps=steps, decayed=0.5).analysis
    assert momentum.startswith(
        "Momentum. At the same learning rate 0.1, without weight decay: SGD's weights end 3.00× as "
        "long as SGD-plain's (6.06 against 2.02; 95 % interval "
    )
    assert "SGD's mean effective step is 2.00× SGD-plain's (0.0202 against 0.0101; " in momentum
    assert momentum.endswith("momentum causes 90 % of SGD's norm growth and none of SGD-plain's.")
    assert sgdp.startswith("Projection. At the same learning rate 0.1")
    assert "SGDP's weights end 0.500× as long as SGD's (3.03 against 6.06; " in sgdp
    assert "AdamP's mean effective step is 3.00× Adam's (" in adamp
    assert adamp.endswith("momentum causes none of AdamP's norm growth and 90 % of Adam's.")
    assert decay == (
        "Weight decay. The weights end 0.500 (SGD-plain), 0.500 (SGD), 0.500 (SGDP), 0.500 (Adam) "
        "and 0.500 (AdamP) times as long as without it."
    )
    assert verdict.startswith("Accuracy: ")


def test_norms_that_differ_by_noise_only_are_no_difference():
    plan = planned(("sgd", "sgdp"))
    result = analysed({"sgd": 3.0, "sgdp": 3.0}, plan)
    for spec, record in result.records.items():
        record["norm"] = 3 + (-1) ** (spec.seed + (spec.optimizer == "sgd")) / 10
    result = report(plan, result.records)
    assert result.headline.endswith("no difference detected between SGDP and SGD.")


def test_one_seed_has_ratios_without_intervals():
    result = analysed(NORMS, planned(seeds=1))
    assert "SGD 3.00 times SGD-plain's" in result.headline
    assert "one pair of seeds, no interval" in result.analysis[0]


def test_diverged_seeds_are_left_out():
    result = analysed(NORMS)
    for spec, record in result.records.items():
        if spec.optimizer == "sgdp":
            record |= {"diverged": True, "norm": math.inf}
    headline = report(result.plan, result.records).headline
    assert headline.endswith("without weight decay: SGD 3.00 times SGD-plain's; AdamP 0.250 times "
                             "Adam's.")  # fmt: skip


def test_without_any_weight_decay_there_is_one_run_of_each():
    plan = planned(decay=0.0)
    result = analysed(NORMS, plan)
    assert not result.undecayed
    assert "SGDP 0.500 times SGD's" in result.headline
    assert [text.partition(".")[0] for text in result.analysis[:-1]] == [
        "Momentum", "Projection", "Projection"
    ]  # fmt: skip
    assert {panel.title for panel in analysis_figure(plan, result.records).panels} == {
        f"{what}, without weight decay"
        for what in ("Mean weight norm", "Effective step", "Accuracy")
    }


def test_norms_at_different_learning_rates_are_not_compared():
    plan = planned(decay=0.0)
    faster = plan.optimizers["sgdp"]._replace(published={"lr": 0.5, "weight_decay": 0.0})
    result = analysed(NORMS, plan._replace(optimizers=plan.optimizers | {"sgdp": faster}))
    assert "SGDP" not in result.headline
    assert not any(text.startswith("Projection. ") and "SGDP" in text for text in result.analysis)
    assert "SGD 3.00 times SGD-plain's" in result.headline


def test_an_unfinished_analysis_says_how_far_it_is():
    result = analysed(NORMS)
    some = dict(list(result.records.items())[:7])
    unfinished = report(result.plan, some)
    assert unfinished.headline.startswith("7 of 30 trials are done")
    assert not unfinished.analysis
    assert "7 of 30 trials" in page(unfinished)


# ---- what an analysis cannot show


def bare():
    """The report of a model in which nothing is scale-invariant."""
    plan = planned(invariant=[])
    records = made.finished(plan, logs=12)
    for record in records.values():
        kept = {k: v for k, v in record["curves"].items() if k in ("step", "loss", "lr")}
        record |= {"curves": kept, "layers": None}
        record |= dict.fromkeys(("norm", "effective_step", "memory_share"))
    return report(plan, records)


def test_without_invariant_weights_there_are_scores_and_no_mechanism(capsys):
    result = bare()
    assert result.headline.startswith("Accuracy: ")
    assert result.analysis == [analysis.NOTHING_INVARIANT]
    assert analysis.caveats(result.plan) == [analysis.NOTHING_INVARIANT]
    titles = [panel.title for panel in analysis_figure(result.plan, result.records).panels]
    assert titles == ["Accuracy, without weight decay", "Accuracy, with weight decay"]
    print_report(result, Console(width=80))
    printed = " ".join(capsys.readouterr().out.split())
    assert "The audit proved no weight of this model scale-invariant" in printed
    for text in (printed, page(result)):
        assert "Momentum. " not in text
        assert "Projection. " not in text
        assert "weights end" not in text


@pytest.mark.parametrize(("decay", "said"), [(1e-5, True), (1e-2, False)])
def test_a_decay_that_does_nothing_is_named(decay, said):
    plan = planned(decay=decay)  # 600 steps at lr .1: SGD's decay over the run is 6e-3 or 6
    texts = analysis.caveats(plan)
    assert bool(texts) is said
    assert not said or "it would shorten the weights by at most 0.598 %." in texts[0]
    assert ("Weight decay does almost nothing" in page(analysed(NORMS, plan))) is said
    assert not analysis.caveats(plan._replace(undecayed=False))


# ---- figure, page and terminal


def test_the_figure_has_three_rows_and_two_columns_with_one_scale_per_row():
    result = analysed(NORMS)
    figure = next(figure for figure in result.figures if figure.key == "analysis")
    assert figure.columns == 2
    assert [panel.title for panel in figure.panels] == [
        f"{what}, {how} weight decay"
        for what in ("Mean weight norm", "Effective step", "Accuracy")
        for how in ("without", "with")
    ]
    for left, right in zip(figure.panels[::2], figure.panels[1::2], strict=True):
        assert left.y == right.y
        assert left.x == right.x
        assert [s.name for s in left.series] == [s.name for s in right.series] == [*NORMS]
        low, high = left.y.limits or (0, 0)
        inside = [low <= y <= high for s in left.series for y in s.y]
        assert sum(inside) > 0.6 * len(inside)  # scores: the second half
    assert figure.panels[0].x.limits == (0.0, pytest.approx(30, rel=0.05))  # epochs
    assert all(max(s.x) == pytest.approx(30, abs=0.1) for p in figure.panels for s in p.series)


def test_only_an_analysis_has_this_figure(study):
    assert "analysis" not in [figure.key for figure in study.figures]
    assert not study.analysis


def test_the_page_shows_sentences_then_the_figure_then_tables():
    text = page(analysed(NORMS))
    order = ["SGD 3.00 times", "Momentum. At", 'data-figure="analysis"', "Same learning rate",
             "<h2>Verdict", "tangential compare digits", "<h2>Method"]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert text.count("Momentum. At the same") == 1
    assert "Nothing was tuned" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_both_tables_and_the_sentences(width, capsys):
    print_report(analysed(NORMS, decayed=0.5), Console(width=width))
    text = capsys.readouterr().out
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    order = ["Without weight decay (3", "With weight decay (3", "norms at the end", "Momentum. ",
             "Weight decay. ", "Accuracy: ", "Next, "]  # fmt: skip
    places = [words.index(some) for some in order]
    assert places == sorted(places)
    if width == 80:  # one table per weight decay, with norm, effective step and accuracy
        assert text.count("┏") == 2
        for column in ("accuracy", "norm", "effective", "momentum"):
            assert column in text


def test_what_to_run_next():
    assert next(iter(analysed(NORMS).next_steps)) == (
        "tangential compare digits --set preset=mini --epochs 30 --sweep --trials 9 --seeds 3"
    )
    assert "tangential analyse FILE.py:FUNCTION" in analysed(NORMS).next_steps
