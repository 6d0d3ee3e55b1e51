"""An optimizer that is compared with several baselines: rows, verdicts, sentences, page, tables."""

import csv
import re

import made_study as made
import pytest
from rich.console import Console

from tangential_lab.cli.study.report import print_report
from tangential_lab.reports import page, report, sentences, write_overview
from tangential_lab.reports.sentences import next_steps
from tangential_lab.reports.verdicts import headline

BOTH = {"adamp": ["adamw", "adam"]}
LOW = [0.80, 0.81, 0.80, 0.82, 0.81, 0.80, 0.82, 0.81]
HIGH = [0.90, 0.91, 0.90, 0.92, 0.91, 0.90, 0.92, 0.905]


@pytest.fixture(scope="module")
def two():
    """AdamP is ahead of Adam and equal to AdamW, at the same settings, and without decay, too."""
    names = ("adam", "adamw", "adamp")
    optimizers = {name: made.OPTIMIZERS[name]._replace(space=None) for name in names}
    point = {"lr": 0.01, "weight_decay": 0.01}
    optimizers = {name: o._replace(published=point) for name, o in optimizers.items()}
    plan = made.plan(optimizers, trials=0, seeds=8, chosen_baselines=BOTH)
    scores = {"adam": {"score": LOW}, "adamw": {"score": HIGH}, "adamp": {"score": HIGH}}
    return report(plan, made.finished(plan, logs=10, **scores))


def test_every_comparison_has_its_own_finding_and_all_share_holm(two):
    row = made.row_of(two, "adamp")
    assert [pair.baseline for pair in row.comparisons] == ["adamw", "adam"]
    assert {pair.family for pair in row.comparisons} == {2}
    adam = row.against("adam")
    assert adam.p_holm == pytest.approx(2 * adam.p) == 4 / 2**8
    assert row.against("sgd") is None
    assert [(f.optimizer, f.baseline, f.side) for f in two.findings] == [
        ("adamp", "adamw", "equal"),
        ("adamp", "adam", "ahead"),
    ]
    words = "AdamP is ahead of Adam; AdamP and AdamW are equal within 0.30 points"
    assert two.headline == headline(two.plan, two.rows) == f"Accuracy: {words}."


def test_cost_names_both_baselines(two):
    for finding, name in zip(two.findings, ("AdamW", "Adam"), strict=True):
        assert f"a step of AdamP takes {1.03:.1f}" in finding.cost
        assert f" as long as one of {name} (" in finding.cost


def test_norms_at_one_decay_are_compared_only_with_the_usual_baseline(two):
    """Adam's decay is coupled: at the same settings it shrinks a weight by another amount."""
    for baseline, said in (("adamw", True), ("adam", False)):
        text = sentences.fair_mechanism(two.plan, "adamp", baseline, two.rows, [])
        assert text.startswith("At the same settings: AdamP's") is said
        assert bool(text) is said
    why = "Norms and effective steps are not compared: the weight decays of AdamP and Adam act in "
    assert two.findings[-1].mechanism == f"{why}different ways."
    bare = [row._replace(point={"lr": 0.01, "weight_decay": 0.0}) for row in two.rows]
    text = sentences.fair_mechanism(two.plan, "adamp", "adam", [], bare)
    assert text.startswith("At the same learning rate 0.01, without weight decay: ")


def test_without_decay_the_comparison_is_with_the_baseline_whose_lr_it_has(two):
    [pair] = next(row for row in two.undecayed if row.optimizer == "adamp").comparisons
    assert pair.baseline == "adamw"


def test_the_page_has_a_row_for_each_comparison(two):
    text = page(two)
    verdict = text[text.index('aria-label="Verdict"') :].split("</tbody>")[0]
    rows = [re.sub(r"<.*?>|\s+", " ", row).split() for row in verdict.split("<tr>")[2:]]
    assert [row[0] for row in rows] == ["Adam", "AdamW", "AdamP", "AdamP"]
    assert ["Adam" in row[1:] for row in rows] == [False, False, False, True]
    assert verdict.count("90.81") == 2  # the scores of AdamW and AdamP, each once
    assert "<td>AdamW, Adam</td>" in text


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_terminal_names_the_baseline_of_each_difference(two, width, capsys):
    print_report(two, Console(width=width))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "AdamW +0.00" in text
    assert "Adam +9.94" in text


@pytest.mark.slow
def test_a_table_of_studies_has_a_row_for_each_comparison(two, tmp_path):
    text = write_overview([two], tmp_path)[0].read_text("utf-8")
    assert "AdamP against Adam: ahead in 1 of 1 study." in text
    assert "AdamP against AdamW: equal in 1 of 1 study." in text
    with (tmp_path / "studies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    minus = [(row["optimizer"], row["minus"]) for row in rows]
    assert minus == [("adam", ""), ("adamw", ""), ("adamp", "adamw"), ("adamp", "adam")]


def test_the_lines_of_all_baselines_are_dashed(two):
    assert {name for name, style in two.styles.items() if style.dashed} == {"adam", "adamw"}


def test_the_next_command_keeps_the_chosen_baselines(two):
    command = next(iter(next_steps(two.plan._replace(sweep=True))))
    assert command.endswith("--optimizers adam adamw adamp --baseline adamp=adamw adamp=adam")
