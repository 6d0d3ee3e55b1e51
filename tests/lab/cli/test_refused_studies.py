"""A study that is refused, whenever that is, leaves no file behind."""

import sqlite3

import pytest
from processes import call, is_one_line, run

from tangential_lab.studies import study

MINE = """
from torch.optim import SGD, Muon
from tangential_lab.experiments import digits

def wrong(params, lr, weight_decay):
    raise ValueError("no such optimizer here")

def exits(params, lr, weight_decay):
    raise SystemExit(3)

class LeavesAtStep(SGD):
    def step(self, closure=None):
        raise RuntimeError("not here")

def task():
    return digits.digits()._replace(batch_size=0)

def broken():
    return digits.digits()._replace(loss=lambda model, batch: model.nothing)

def exits_in_loss():
    return digits.digits()._replace(loss=lambda model, batch: exit(0))

def exits_at_once():
    exit(0)

def ends_process():
    import os
    os._exit(0)
"""
SMALL = ("--trials", "0", "--seeds", "1", "--epochs", "1", "--workers", "1")
OWN = ("digits", "--optimizers", "sgd", *SMALL, "--optimizer")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder: it has the user's file, a file, and another program's database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # in the process that tests optimizers
    monkeypatch.setattr(study, "scale_invariant_weights", lambda task: [])  # takes seconds
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    connection = sqlite3.connect(tmp_path / "other/study.db")
    connection.execute("create table theirs (x)")
    connection.close()
    return tmp_path


def contents(folder):
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "--set", "nope=1"), "nope"),
        (("digits", "--preset", "paper"), "preset must be mini"),
        (("digits", "--sweep", "--trials", "0"), "--sweep needs a search"),
        (("digits", "--optimizers", "sgd", "--baseline", "sgd=adam"), "unknown optimizer 'adam'"),
        (("digits", "--baseline", "adamw=adamp"), "are the same comparison"),
        (("digits", "--optimizers", *SMALL), "must name at least one optimizer"),
        (("digits", "--study", "a/b"), "must be the name of one folder"),
        (("digits", "--storage", "x"), "is not a valid URL"),
        (("digits", "--storage", "sqlite:///other/study.db"), "belongs to another program"),
        (("digits", "--storage", "sqlite:////proc/none/x.db"), "/proc/none"),
        (("digits", "--study", "other", "--out", "."), "belongs to another program"),
        (("digits", "--out", "file"), "Not a directory: 'file/digits'"),
        (("digits", "--out", "/proc/none"), "/proc/none"),
        (("imagenet", "--preset", "paper", "--data", "."), "ImageNet"),
        (("adversarial", "--preset", "paper", "--set", "held_out=no"), "cifar-10-batches-py"),
        (("mine.py:nothing",), "mine.py has no function 'nothing'"),
        (("mine.py:task",), "the task's batch_size is 0"),
        (("mine.py:broken", "--optimizers", "sgd", *SMALL), "has no attribute 'nothing'"),
        (("mine.py:exits_in_loss", "--optimizers", "sgd", *SMALL), "SystemExit: 0 (mine.py:22)"),
        (("mine.py:exits_at_once",), "mine.py:25 ends this command with exit(0): remove this call"),
        ((*OWN, "x=mine.py:wrong"), "no such optimizer here"),
        ((*OWN, "x=mine.py:exits"), "SystemExit"),
        ((*OWN, "x=mine.py:LeavesAtStep"), "not here"),
        ((*OWN, "x=mine.py:Muon"), "Muon only supports 2D"),
        ((*OWN, "sgd=mine.py:wrong"), "is the laboratory's own"),
    ],
)
@pytest.mark.slow
def test_a_refused_study_leaves_no_file(arguments, words, here, capsys):
    before = contents(here)
    status, out, errors = call(capsys, "compare", *arguments)
    assert status == 1
    assert is_one_line(errors)
    assert words in errors
    assert out.startswith("Preparing: ") or not out
    assert contents(here) == before


@pytest.mark.slow
def test_a_task_that_ends_the_process_is_named(here):
    """In a separate process: it would end this one."""
    before = contents(here)
    status, _, errors = run("compare", "mine.py:ends_process")
    call = "mine.py:29 ends this command with os._exit(0)"
    assert (status, errors) == (1, f"Stopped: {call}: remove this call\n")
    assert contents(here) == before
