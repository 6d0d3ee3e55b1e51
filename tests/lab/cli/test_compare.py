"""`tangential compare` in a process: it reports, and it loses no trial, however it is stopped."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import call, start

from tangential_lab.studies import Store

pytestmark = pytest.mark.slow

SIZES = ["--optimizers", "sgd", "sgdp", "--trials", "2", "--seeds", "2"]
SWEEP = ["--optimizers", "sgd", "sgdp", "--trials", "1", "--seeds", "2", "--sweep"]
SMALL, TRIALS = ["compare", "digits", *SWEEP, "--workers", "1"], 4
linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")


def command(*arguments):
    return start(*arguments, stderr=subprocess.STDOUT)


def output_here(capsys, *arguments):
    status, *texts = call(capsys, *arguments)
    return status, "".join(texts)


def first_trial(process):
    """The line about the first finished trial."""
    while not (line := process.stdout.readline()).startswith("["):
        assert line, "the command ended"
    return line


def workers_of(process):
    """Ids of the processes in which a study trains."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def is_alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_ended(pids):
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))


def test_a_study_runs_reports_and_does_nothing_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")  # as in other processes
    arguments = ["compare", "digits", *SIZES, "--epochs", 1, "--undecayed", "--out", tmp_path]
    status, text = output_here(capsys, *arguments)
    assert status == 0, text
    assert "SGDP" in text
    folder = tmp_path / "digits"
    with (folder / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    count = len(trials)
    assert f"[{count:3}/{count}]" in text
    assert {trial["phase"] for trial in trials} == {"tune", "test", "undecayed"}
    assert not (folder / "checkpoints").exists()
    status, again = output_here(capsys, *arguments)
    assert status == 0
    assert f"{count} of {count} trials are already finished" in again
    assert f"{count}/{count}]" not in again
    end = "At the baseline's learning rate"
    assert text[text.index(end) :] == again[again.index(end) :]
    status, report = output_here(capsys, "report", "digits", "--out", tmp_path)
    assert status == 0
    assert text[text.index(end) :] == report[report.index(end) :]
    status, report = output_here(capsys, "report", folder, folder, "--out", tmp_path)
    assert status == 0, report
    assert (tmp_path / "report.html").exists()


def finish(capsys, folder, *arguments):
    """Run a command that finishes a stopped study; return how many trials it found and kept."""
    store = Store(f"sqlite:///{folder}/digits/study.db", "digits")
    plan = store.plan()
    kept = store.records(plan)
    status, text = output_here(capsys, *arguments)
    assert status == 0, text
    records = store.records(plan)
    store.close()
    assert len(records) == TRIALS
    assert all(records[spec] == record for spec, record in kept.items())
    return len(kept)


def test_ctrl_c_saves_the_running_trials_and_a_worker_continues(tmp_path, capsys):
    arguments = (*SMALL, "--epochs", 8, "--out", tmp_path)
    process = command(*arguments)
    assert first_trial(process).startswith(f"[  1/{TRIALS}]")
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=100)
    assert process.returncode == 130, text
    assert "Stopping: saving the running trials" in text
    assert "Stopped. Finished trials are kept: run the same command again" in text
    assert "Traceback" not in text
    assert list((tmp_path / "digits/checkpoints").glob("*/*.checkpoint"))
    assert 1 <= finish(capsys, tmp_path, "worker", "digits", "--out", tmp_path) < TRIALS


@linux
def test_a_second_signal_ends_at_once_and_loses_nothing(tmp_path, capsys):
    arguments = (*SMALL, "--epochs", 5, "--out", tmp_path)
    process = command(*arguments)
    assert first_trial(process).startswith(f"[  1/{TRIALS}]")
    workers = workers_of(process)
    os.killpg(process.pid, signal.SIGINT)
    while "Stopping" not in (line := process.stdout.readline()):
        assert line
    os.killpg(process.pid, signal.SIGTERM)
    text, _ = process.communicate(timeout=100)
    assert process.returncode == 143, text
    assert "Traceback" not in text
    wait_until_ended(workers)
    finish(capsys, tmp_path, *arguments)


@linux
def test_a_killed_worker_is_replaced(tmp_path):
    process = command(*SMALL, "--epochs", 3, "--out", tmp_path)
    first_trial(process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    assert re.search(
        r"A worker ended \(SIGKILL, (in \w+'s \w+ trial of seed \d+|between trials)\); another "
        "worker takes its trial",
        text,
    )
    assert f"[  {TRIALS}/{TRIALS}]" in text


@linux
def test_a_killed_study_leaves_no_workers_and_can_be_continued(tmp_path, capsys):
    arguments = (*SMALL, "--epochs", 3, "--out", tmp_path)
    process = command(*arguments)
    first_trial(process)
    workers = workers_of(process)
    process.kill()
    process.communicate(timeout=60)
    wait_until_ended(workers)
    status, text = output_here(capsys, *arguments)
    assert status == 0, text
    assert f"of {TRIALS} trials are already finished" in text


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status, text = output_here(capsys, *SMALL, "--out", tmp_path / "file")
    assert status == 1
    assert "Traceback" not in text
    assert "Not a directory" in text


OWN = """
from torch.optim import SGD

def heavy(params, lr, momentum):
    return SGD(params, lr=lr, momentum=momentum)

heavy.space = {"lr": (1e-3, 1e-1), "momentum": (0.5, 0.99)}
heavy.family = "sgd"

def wrong(params, lr, weight_decay):
    raise ValueError("no such optimizer here")
"""


def test_the_users_own_optimizer_is_compared_or_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    sizes = ("--trials", 1, "--seeds", 1, "--epochs", 1, "--workers", 1)
    usual = ("compare", "digits", "--optimizers", "sgd", *sizes)
    status, text = output_here(capsys, *usual, "--optimizer", "heavy=mine.py:heavy")
    assert status == 0, text
    assert "heavy" in text
    with (tmp_path / "runs/digits/trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert {t["optimizer"] for t in trials} == {"sgd", "heavy"}
    status, text = output_here(capsys, *usual, "--optimizer", "wrong=mine.py:wrong")
    assert status == 1
    assert re.search(
        r"Stopped: optimizer 'wrong' fails with a list of groups .*, lr=0.01, weight_decay=0.01"
        r": ValueError: no such optimizer here \(.*mine.py:\d+\)\. "
        r"Correct it, as docs/own_optimizer.md shows, or leave this",
        text,
    )
    assert "Traceback" not in text
