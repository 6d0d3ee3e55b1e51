"""Whatever the width of the terminal: no table breaks, and no number is split."""

import os
import random
import re

import made_study as made
import pytest
from processes import call
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential_lab.cli import toy
from tangential_lab.cli.study import report as command
from tangential_lab.cli.study.progress import Display
from tangential_lab.reports import Interval, report, wording
from tangential_lab.studies import PlannedOptimizer, Store, schedule
from tangential_lab.terminal import print_table, wrapped

WIDTHS = (40, 80, 110, 200)
NUMBER = r"[+-]?\d[\d.,]*(?:e[+-]\d+)?"


def printed_at(width, study, capsys):
    command.print_report(study, Console(width=width))
    return capsys.readouterr().out


def numbers(text):
    return sorted(re.findall(NUMBER, re.sub(r"\.(?=\s|$)", "", text)))


@pytest.fixture(
    params=["usual", "perplexity", "one seed", "nothing invariant", "own names"], scope="module"
)
def study(request):
    own = {
        "sgd": made.OPTIMIZERS["sgd"],
        "a name that is far longer than [bold] others": made.OPTIMIZERS["sgdp"],
        "x" * 70: PlannedOptimizer("m:f", "", "sgd", "#332288", made.SPACES["sgd"], {"lr": 0.1}),
    }
    plan = {
        "usual": lambda: made.plan(),
        "perplexity": lambda: made.plan(metric=made.PERPLEXITY, seeds=8),
        "one seed": lambda: made.plan(seeds=1),
        "nothing invariant": lambda: made.plan(invariant=[]),
        "own names": lambda: made.plan(own, metric=made.ACCURACY._replace(name="a b " * 9)),
    }[request.param]()
    return report(plan, made.finished(plan))


@pytest.mark.slow
def test_a_report_fits(study, capsys):
    wide = printed_at(10_000, study, capsys)
    for width in WIDTHS:
        text = printed_at(width, study, capsys)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text  # nothing is cut
        assert numbers(text) == numbers(wide)


def test_a_wide_terminal_has_one_table_and_a_narrow_one_more(capsys):
    plan = made.plan(undecayed=False)
    study = report(plan, made.finished(plan))
    counts = [printed_at(width, study, capsys).count("┏") for width in (200, 80, 60)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[2] <= 3


def test_a_table_that_fits_nowhere_is_printed_as_a_list(capsys):
    table = Table("optimizer", "norm\nat the end", title="Norms")
    table.add_row("[red]sgd[/]", escape("1.234 [a]"))
    table.add_row("adam", "")
    for width, first in ((80, "Norms"), (20, "Norms")):
        print_table(Console(width=width), table)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0].strip() == first
    assert lines[1:] == ["optimizer: sgd", "  norm at the end:", "  1.234 [a]", "optimizer: adam"]


@pytest.mark.parametrize("width", range(14, 60))
def test_a_sentence_keeps_numbers_whole(width):
    text = "From -0.47 to +0.41 points; 3.2e-05 against 12.5 ms (95 % interval 1,234.5 to 2,000)."
    lines = wrapped(text, width).splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(lines) == text
    whole = set(re.findall(r"[+-]?[\d,]*\.?\d+(?:e-\d+)?(?: (?:points|ms|%))?", text))
    assert all(any(number in line for line in lines) for number in whole if len(number) <= width)


def test_progress_fits():
    plan = made.plan()
    records = made.finished(plan)
    for width in (40, 80):
        console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        display = Display(plan, console)
        display.show({})
        display.show(records)
        console.print(display.table())
        text = console.export_text()
        console.file.close()
        assert "seed 1004: 9" in text
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        assert "…" not in text


@pytest.fixture
def printed_lines(tmp_path, capsys, monkeypatch):
    """Calls a command on a terminal of some width; returns its lines, without paths of files."""

    def lines_of(width, *arguments):
        monkeypatch.setenv("COLUMNS", str(width))
        status, out, err = call(capsys, *arguments)
        assert (status, err) == (0, "")
        return [line for line in out.splitlines() if not line.startswith(os.sep)]

    return lines_of


@pytest.mark.parametrize("problem", ["2d", "3d"])
@pytest.mark.slow
def test_the_toys_command_fits(problem, printed_lines, monkeypatch):
    monkeypatch.setattr(toy, "draw_toy", lambda *_: [])
    runs = toy.run_toy(problem, toy.MOMENTUM[problem])
    monkeypatch.setattr(toy, "run_toy", lambda *_: runs)
    for width in (60, 80):
        lines = printed_lines(width, "toy", problem)
        assert max(map(len, lines)) <= width
        text = "\n".join(lines)
        assert "…" not in text
        assert not re.search(r"\b0\.0000\b", text)
        assert ("3.5e-05 / 1.12" if problem == "2d" else "1.283") in text


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the database of a finished study."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "runs/digits").mkdir(parents=True)
    store = Store(f"sqlite:///{folder}/runs/digits/study.db", "digits")
    plan, records = made.plan(trials=1, seeds=2, undecayed=False), {}
    store.begin(plan)
    while specs := schedule.missing(plan, records):
        for spec in specs:
            records[spec] = made.record(plan, spec, random.Random(str(spec)), 0.9)
            store.finish(store.claim(plan, [spec]), records[spec])
    store.close()
    return folder


@pytest.mark.slow
def test_the_reports_command_fits(runs, printed_lines, monkeypatch):
    monkeypatch.chdir(runs)
    texts = {}
    for width in (60, 80, 400):
        lines = printed_lines(width, "report", "digits")
        assert max(map(len, lines)) <= width
        texts[width] = "\n".join(lines)
        assert "…" not in texts[width]
        assert "AdamP-matched" in texts[width]
    assert numbers(texts[60]) == numbers(texts[80]) == numbers(texts[400])


@pytest.mark.slow
def test_no_zero_has_a_minus():
    tiny = -1e-5
    assert wording.gap(made.ACCURACY, tiny) == "0.00 points"
    assert wording.score(made.ACCURACY, tiny) == "0.00 %"
    assert wording.number(-0.0) == "0"
    assert wording.near_score(made.ACCURACY, Interval(tiny, tiny, tiny, 5))[0] == "0.00"
    assert wording.percent(Interval(tiny, tiny, tiny, 5))[0] == "0.0"
    plan = made.plan()
    found = report(plan, made.finished(plan))
    row = found.rows[0]._replace(memory_share=Interval(tiny, tiny, tiny, 5))
    share = next(c for c in command._columns(plan) if c.heading == "growth by momentum")
    assert share.cell(row) == [["0 %"]]


def test_a_note_on_a_study_wraps_at_words(capsys):
    text = "A worker ended (exit status 0, in x's test trial of seed 1000); another takes it."
    Display(made.plan(), Console(width=40)).say(text)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(lines) == text


@pytest.mark.slow
def test_a_ratio_is_explained_and_stays_with_its_number(capsys):
    plan = made.plan()
    found = report(plan, made.finished(plan))
    assert any("the ratio is the geometric mean over seeds" in s for s in found.sentences)
    for width in range(30, 90):
        command._print_sentences(found.sentences, Console(width=width))
        lines = capsys.readouterr().out.splitlines()
        assert not any(line.endswith("; ratio") for line in lines)
