"""Odd calls of every command: one line on standard error and a status, never a traceback."""

import signal
import sys
from itertools import product

import made_study as made
import pytest
from processes import call, is_one_line

from tangential_lab import errors
from tangential_lab.cli import app, lemmas, toy
from tangential_lab.cli.study import compare, location, report, watch, worker
from tangential_lab.studies.storage import database

ODD = (
    *("", " ", "-1", "0", "1.5", "1e300", "inf", "-inf", "nan", "9" * 30, "1_0", "0x10", "1,2"),
    *("x", "[red]x[/red]", "[/]", "a\nb", "\x1b[31m", "\udcff", "é" * 300, "x" * 5000, "None"),
    *(
        "/dev/null",
        "/dev/null/x",
        "file",
        ".",
        "..",
        "\0",
        "-",
        "--",
        "-x",
        "--x=1",
        "--help=1",
        "@file",
    ),
)
STARTED = (  # options of every command that starts a study
    *("--preset", "--set", "--optimizers", "--optimizer", "--lr", "--weight-decay", "--seeds"),
    *("--epochs", "--workers", "--threads", "--precision", "--sharded", "--study", "--data"),
    *("--out", "--checkpoint-s"),
)
OPTIONS = {
    "compare": (*STARTED, "--trials", "--sweep", "--undecayed"),
    "analyse": STARTED,
    "worker": ("--storage", "--data", "--out", "--checkpoint-s"),
    "report": ("--storage", "--out"),
    "watch": ("--storage", "--out", "--port"),
    "list": (),
    "info": (),
    "lemmas": (),
    "toy": ("--momentum", "--out"),
    "audit": ("--batches", "--batch-size", "--seed"),
    "diagnose": (),
}
USUAL = {
    "compare": "digits",
    "analyse": "digits",
    "worker": "s",
    "report": "s",
    "watch": "s",
    "toy": "3d",
}


class Begun(BaseException):
    """The call was right after all: the work would begin."""


def begin(*_, **__):
    raise Begun


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of odd files, and commands that stop where their work begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(database, "PAUSE_S", 0)  # at what is no database
    (tmp_path / "file").write_text("text")
    for module, name in (
        *((compare.experiments, "make"), (worker, "run_worker"), (report, "conclude")),
        (watch, "serve"),
        *((toy, "run_toy"), (lemmas, "all_lemmas"), (location.Store, "plan")),
    ):
        monkeypatch.setattr(module, name, begin)
    return tmp_path


def called(capsys, *arguments):
    """Status (None where the work would begin), output and errors."""
    try:
        return call(capsys, *arguments)
    except Begun:
        return None, *capsys.readouterr()


def check(capsys, arguments):
    """Whether the call was refused, as it should be."""
    status, out, err = called(capsys, *arguments)
    assert "Traceback" not in out + err, arguments
    assert "Unexpected error" not in err, (arguments, err)
    if not status:
        assert not err, (arguments, err)
        return False
    assert status in (1, 2), arguments
    assert is_one_line(err), (arguments, err)
    assert err.startswith(("Error: ", "Stopped: ")), (arguments, err)
    assert not out, arguments
    return True


@pytest.mark.parametrize(
    ("command", "least"),
    [
        *(
            ("compare", 380),
            ("analyse", 380),
            ("worker", 110),
            ("report", 60),
            ("watch", 100),
            ("list", 30),
        ),
        *(
            ("info", 30),
            ("lemmas", 30),
            ("toy", 80),
            ("audit", 80),
            ("diagnose", 2),
        ),
    ],
)
@pytest.mark.slow
def test_odd_values_of_every_option_are_refused_in_a_line(
    command, least, here, capsys, monkeypatch
):
    if command in ("compare", "analyse"):  # the others open databases, too
        monkeypatch.setattr(location, "Store", begin)
    usual = [USUAL[command]] if command in USUAL else ["file:x"] if command == "audit" else []
    calls = [[command, value] for value in ODD]
    calls += [[command, *usual, option] for option in OPTIONS[command]]
    calls += [[command, *usual, *given] for given in product(OPTIONS[command], ODD)]
    calls += [[command, *usual, f"{o}={v}"] for o, v in product(OPTIONS[command], ODD[:5])]
    calls += [[command, *usual, "--nope"], [command, *usual, "--nope", "1"]]
    assert sum(check(capsys, call) for call in calls) >= least


def test_unknown_commands(here, capsys):
    assert all(check(capsys, [value]) for value in ODD)
    status, _, err = called(capsys, "compair")
    assert status == 2
    assert err.startswith('Error: Unknown command "compair". Did you mean "compare"?')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "digits", "--epochs", "inf"], 'Invalid value "inf" for --epochs'),
        (["compare", "digits", "--epochs", "nan"], 'Invalid value "nan" for --epochs'),
        (["compare", "digits", "--epochs", "1e300"], "Must be <= 1000000"),
        (["compare", "digits", "--trials", "1000000"], "Must be <= 10000"),
        (["compare", "digits", "--seeds", "0"], "Must be >= 1"),
        (["compare", "digits", "--workers", "100000"], "Must be <= 1024"),
        (["compare", "bias", "--set", "rho=nan"], "rho must be a finite number, got nan"),
        (["compare", "[red]x", "--out", "[/]"], "unknown task '[red]x'"),
        (["compare", "digits", "--out", "file/[red]x"], "Not a directory: 'file/[red]x/digits'"),
        (["toy", "3d", "--out", "file"], "File exists: 'file'"),
        (["report", "nothing\x1b[31m"], r"no study 'nothing\x1b[31m'"),
    ],
)
def test_the_line_names_what_is_wrong(arguments, words, here, capsys):
    assert check(capsys, arguments)
    assert words in called(capsys, *arguments)[2]
    assert sorted(path.name for path in here.iterdir()) == ["file"]  # nothing was begun


def test_outputs_are_tried_before_the_work(here, capsys):
    (here / "rosenbrock_3d.svg").mkdir()
    status, out, err = called(capsys, "toy", "3d", "--out", ".")
    assert (status, out) == (1, "")
    assert err == "Stopped: [Errno 21] Is a directory: 'rosenbrock_3d.svg'.\n"


def raising(monkeypatch, error):
    def fails():
        raise error

    monkeypatch.setattr(app, "described", fails)


def test_a_bug_of_ours_is_called_one_and_can_be_traced(capsys, monkeypatch):
    raising(monkeypatch, KeyError("lost"))
    status, out, err = called(capsys, "info")
    assert (status, out) == (1, "")
    assert err.startswith("Unexpected error: KeyError: 'lost'. This is a bug in Tangential: ")
    monkeypatch.setenv(errors.TRACEBACK, "1")
    with pytest.raises(KeyError, match="lost"):
        called(capsys, "info")


def test_a_long_message_is_cut_and_kept_on_one_line(capsys, monkeypatch):
    raising(monkeypatch, ValueError("begin\n" + "x\n" * 1_500_000 + "end"))
    status, _, err = called(capsys, "info")
    assert status == 1
    assert is_one_line(err)
    assert err.startswith("Stopped: begin x x ")
    assert err.endswith(" x x end\n")
    assert "(2,999,009 characters left out)" in err


def test_a_message_that_was_cut_before_has_one_count(capsys, monkeypatch):
    inner = errors.shorten("begin" + "x" * 5000 + "end")
    raising(monkeypatch, ValueError("y" * 600 + inner))
    err = called(capsys, "info")[2]
    assert err.count("left out") == 1
    left_out = int(err.split(" ... (")[1].split()[0].replace(",", ""))
    assert left_out == 600 + 5008 - 1000


def test_an_output_that_cannot_be_written_promises_nothing(here, capsys):
    err = called(capsys, "compare", "digits", "--out", "file")[2]
    assert err.startswith("Stopped: [Errno 20] Not a directory: ")
    assert "are kept" not in err


def test_a_terminal_wraps_at_words_and_never_in_a_path(capsys, monkeypatch):
    path = "/data/" + "long/" * 12
    raising(monkeypatch, ValueError(f"no such folder {path}: choose one that exists, or make it"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    *_, message = called(capsys, "info")[2].split("\r")  # after "Loading PyTorch ..." is erased
    lines = message.splitlines()
    assert lines[1] == f"{path}:"
    assert [line for line in lines if len(line) > 40] == [f"{path}:"]
    assert " ".join(lines).endswith("choose one that exists, or make it")


def test_a_name_that_is_not_utf_8_is_named(capsys, monkeypatch):
    with pytest.raises(UnicodeEncodeError) as raised:
        "r\udcfc.csv".encode()
    raising(monkeypatch, raised.value)
    status, _, err = called(capsys, "info")
    assert status == 1
    assert err.startswith(r"Stopped: 'r\\udcfc.csv' has characters that are not utf-8 text: use")


@pytest.mark.slow
def test_a_study_that_is_ready_is_begun(here, capsys, monkeypatch):
    """The calls above are refused for what is odd in them, not for all else."""
    store = location.Store(f"sqlite:///{here}/runs/s/study.db", "s")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    store.begin(made.plan(("sgd", "sgdp"), trials=2, seeds=2))
    store.close()
    status, out, err = called(capsys, "report", "s")
    assert (status, err) == (0, "")
    assert "0 of " in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line(capsys, monkeypatch, number):
    monkeypatch.setattr(lemmas, "all_lemmas", lambda: signal.raise_signal(number))
    usual = signal.getsignal(number)
    assert call(capsys, "lemmas") == (128 + number, "", "Stopped.\n")
    assert signal.getsignal(number) is usual


def test_an_ignored_signal_stays_ignored():
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with errors.terminations_are_interrupts():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, usual)
