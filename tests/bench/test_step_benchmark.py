"""bench/step.py: what it measures, and the calls that it refuses in one line."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import step
import torch
from optimizer_step.memory import Memory
from optimizer_step.results import Result, Times, write_csv
from optimizer_step.workloads import GATES, SHAPES, Gradients, gradient, weights

SCRIPT = Path(step.__file__)


def exit_code(*arguments):
    try:
        step.main(list(arguments))
    except SystemExit as exit_:
        return exit_.code or 0
    return 0


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and a workload of two small weights without memory measurement."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SHAPES, "small", lambda: [(4, 3), (5,)])
    monkeypatch.setattr(step, "extra_memory", lambda sizes, threads: {})
    return tmp_path


@pytest.mark.parametrize("clock", ["wall", "cpu"])
@pytest.mark.slow
def test_every_case_and_optimizer_is_a_row_of_the_csv_file(clock, here, capsys):
    options = ("--shapes", "small", "--threads", "1", "--rounds", "1", "--clock", clock)
    assert exit_code(*options, "--csv", "x.csv") == 0
    table, progress = capsys.readouterr()
    assert "small: gate flicker, threads 1" in progress
    assert "ms per step, median of 1 interleaved rounds" in table
    rows = rows_of(here / "x.csv")
    assert [row["gate"] for row in rows if row["optimizer"] == "torch SGD fused"] == [*GATES]
    assert all(float(row["ms"]) > 0 for row in rows if clock == "wall")


def test_only_fused_optimizers_if_asked(here, capsys):
    options = ("--shapes", "small", "--gates", "open", "--threads", "1", "--rounds", "1")
    assert exit_code(*options, "--fused", "--csv", "x.csv") == 0
    names = {row["optimizer"] for row in rows_of(here / "x.csv")}
    assert "torch AdamW fused" in names
    assert all(name.endswith(" fused") for name in names)
    assert "foreach" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--shapes", "tinny"], 2, "unknown shape 'tinny'. Did you mean 'tiny'?"),
        (["--gates", "opn"], 2, "unknown gate 'opn'. Did you mean 'open'?"),
        (["--threads", "0"], 2, "Must be >= 1"),
        (["--rounds", "1e300"], 2, 'for --rounds: unable to convert "1e300"'),
        (["--rounds", "10000000"], 2, "Must be <= 1000000"),
        (["--clock", "sun"], 2, 'Invalid value "sun" for --clock'),
        (["--nope", "1"], 2, "--nope"),
        (["\x1b[31m"], 2, r"\x1b[31m"),
        (["--csv", "nowhere/x.csv"], 1, "No such file or directory: 'nowhere/x.csv'"),
        (["--csv", "."], 1, "Is a directory: '.'"),
    ],
)
def test_a_wrong_argument_is_one_line_before_any_work(arguments, code, words, here, capsys):
    assert exit_code(*arguments) == code
    out, err = capsys.readouterr()
    assert words in err
    assert err.startswith(("Error: ", "Stopped: "))
    assert err.count("\n") == 1
    assert not out
    assert not list(here.iterdir())


def test_the_csv_file_stays_as_it_was_until_there_are_results(here, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError("work begins")

    monkeypatch.setattr(step, "measure", fail)
    (here / "old.csv").write_text("old")
    for name in ("old.csv", "new.csv"):
        assert exit_code("--csv", name) == 1
        assert capsys.readouterr().err == "Stopped: work begins.\n"
    assert (here / "old.csv").read_text() == "old"
    assert not (here / "new.csv").exists()


def test_texts_in_the_csv_file_are_no_formulas(tmp_path):
    names = ("torch AdamW fused", "torch SGD fused")
    times = Times(3, 1, 10, 1e-3, dict.fromkeys(names, 2e-3))
    result = Result("=shape", "+gate", 1, {names[0]: Memory(-0.5, 0.0)}, times)
    write_csv([result], tmp_path / "b.csv")
    rows = rows_of(tmp_path / "b.csv")
    assert {(row["weights"], row["gate"]) for row in rows} == {("'=shape", "'+gate")}
    assert [row["memory"] for row in rows] == ["-0.5", ""]
    assert [row["optimizer"] for row in rows] == list(names)


def test_gpt2_has_124_million_weights():
    assert sum(torch.Size(size).numel() for size in SHAPES["gpt2"]()) == 124_439_808


def test_gradients_open_and_shut_the_gate():
    weight = weights([(6, 50)])[0].detach()

    def cosines(kind):
        g = gradient(weight, kind)
        by_row = torch.cosine_similarity(weight, g).abs()
        return by_row, torch.cosine_similarity(weight.flatten(), g.flatten(), dim=0).abs()

    assert cosines("open")[0].max() < 1e-5
    assert min(x.min() for x in cosines("shut")) > 0.1
    by_row, whole = cosines("chance")
    assert by_row.min() > 0.01
    assert whole < 1e-5


def test_sometimes_gradients_come_by_chance():
    params = weights([(4, 3)] * 500)
    gradients = Gradients(params)
    gradients.choose(GATES["flicker"])
    gradients.draw()
    usual = sum(p.grad is pair[0] for p, pair in zip(params, gradients.pairs, strict=True))
    assert 420 < usual < 500


@pytest.mark.slow
def test_ctrl_c_is_one_line_of_this_process_and_those_that_it_started():
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--shapes", "tiny", "--rounds", "99999"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr.readline() == "tiny: extra memory\n"
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "Stopped.\n"
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()
