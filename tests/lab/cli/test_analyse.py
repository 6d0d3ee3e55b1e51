"""`tangential analyse`: it trains, resumes and reports, on any task; it refuses wrong settings."""

import csv
import os
import signal
import subprocess

import pytest
from processes import call, start

PLAIN = '''
import torch
from torch import nn

from tangential_lab.experiments.data.losses import CLASSIFICATION
from tangential_lab.training import Metric, Task, TensorSplit


def moons() -> Task:
    """Two classes that a line divides; a net without normalisations."""
    inputs = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    labels = (inputs.sum(1) > 0).long()
    rows = {"train": slice(0, 200), "validation": slice(200, 250), "test": slice(250, 300)}
    return Task(
        name="moons", about="300 points, a net without normalisations",
        metric=Metric("accuracy", "%", chance_score=0.5), epochs=2, batch_size=20,
        splits={name: TensorSplit(inputs[at], labels[at]) for name, at in rows.items()},
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        **CLASSIFICATION,
    )
'''


def output_of(capsys, *arguments):
    status, text, _ = call(capsys, *arguments)
    return status, " ".join(text.split())


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_an_interrupted_analysis_continues_and_reports(tmp_path, capsys):
    arguments = ("analyse", "--optimizers", "sgd-plain", "sgd", "--seeds", 2, "--epochs", 2,
                 "--workers", 1, "--lr", "sgd=0.2", "--out", tmp_path)  # fmt: skip
    process = start(*arguments, stderr=subprocess.STDOUT)
    while not (line := process.stdout.readline()).startswith("["):
        assert line, "the command ended"
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 130, text
    status, text = output_of(capsys, *arguments)
    assert status == 0, text
    assert "of 8 trials are already finished" in text
    for words in ("Without weight decay (2 paired seeds)", "With weight decay (2 paired seeds)",
                  "Momentum. At the same learning rate 0.2, without weight decay: SGD's weights",
                  "Next, the same figure for your own task"):  # fmt: skip
        assert words in text
    folder = tmp_path / "digits-analysis"
    trials, scores = (rows_of(folder / f"{name}.csv") for name in ("trials", "scores"))
    assert {(t["phase"], t["lr"], float(t["weight_decay"]) > 0) for t in trials} == {
        ("test", "0.2", True), ("undecayed", "0.2", False)
    }  # fmt: skip
    assert len(trials) == 8
    assert len(scores) == 8 * 2  # after every epoch
    assert (folder / "figures/analysis.png").exists()
    assert 'data-figure="analysis"' in (folder / "report.html").read_text("utf-8")
    assert output_of(capsys, "report", "digits-analysis", "--out", tmp_path)[1] in text


@pytest.mark.slow
def test_a_users_task_without_invariant_weights_is_analysed_by_its_scores(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PLAIN)
    arguments = ("analyse", "mine.py:moons", "--optimizers", "sgd-plain", "sgd", "sgdp",
                 "--seeds", 1, "--workers", 1)  # fmt: skip
    status, text = output_of(capsys, *arguments)
    assert status == 0, text
    for words in ("Note: The audit proved no weight of this model scale-invariant",
                  "Note: Weight decay does almost nothing in this run",
                  "Accuracy: one seed cannot tell SGD from SGD-plain"):  # fmt: skip
        assert words in text
    for words in ("Momentum. ", "Projection. ", "norm growth", "effective step is"):
        assert words not in text
    trials = rows_of(tmp_path / "runs/moons-analysis/trials.csv")
    assert len(trials) == 6
    assert "norm" not in trials[0]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--optimizers", "sdg"], 2, "unknown optimizer 'sdg'. Did you mean 'sgd'?"),
        (["--lr", "0"], 1, "lr of sgd must be a finite number > 0, got 0"),
        (["--lr", "adamp=-0.1"], 1, "lr of adamp must be a finite number > 0, got -0.1"),
        (["--lr", "big"], 1, "--lr must be a number or NAME=NUMBER, got 'big'"),
        (["--weight-decay", "adamw=1"], 1, "unknown optimizer or family 'adamw'"),
        (["--weight-decay", "-1"], 1, "weight_decay of sgd must be a finite number >= 0, got -1"),
        (["--trials", "3"], 2, "--trials"),
        (["digts"], 2, "unknown task 'digts'. Did you mean 'digits'?"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_trained(
    arguments, status, words, capsys, tmp_path
):
    ended, _, err = call(capsys, "analyse", *arguments, "--out", str(tmp_path))
    assert ended == status
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.html"))
