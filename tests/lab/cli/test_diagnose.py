"""The command `tangential diagnose`: tables, verdicts, and one line for anything it cannot read."""

import sys
import warnings
from pathlib import Path

import processes
import pytest
from diagnosed_runs import made_up_run, slowed_run, sound_run, written

from tangential.monitor import advice, diagnose, figures, load, sinks
from tangential.monitor.sinks.csv_file import cells, encoded
from tangential.monitor.sinks.rows import FIELDS


def call(capsys, *paths):
    """The exit code, and the printed output or error."""
    code, out, err = processes.call(capsys, "diagnose", *paths)
    assert not (out and err)
    return code, out or err


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    written(slowed_run(), sinks.csv(folder / "momentum.csv"))
    written(sound_run(), sinks.parquet(folder / "good"))
    return folder


@pytest.mark.slow
def test_files_and_memory_have_the_same_diagnosis(runs):
    for file, log in ((runs / "momentum.csv", slowed_run()), (str(runs / "good"), sound_run())):
        assert [x.text for x in diagnose(file)] == [x.text for x in diagnose(log)]


@pytest.mark.slow
def test_diagnose_prints_the_verdicts(runs, capsys):
    code, text = call(capsys, runs / "momentum.csv")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    printed = " ".join(text.split())
    run = load(slowed_run())
    changes = (f" To change: {advice(x, run)}" for x in diagnose(run))
    assert printed.endswith(" ".join(x.text + next(changes) for x in diagnose(run)))


@pytest.mark.slow
def test_diagnose_puts_two_runs_side_by_side(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, text = call(capsys, runs / "momentum.csv", runs / "good")
    assert code == 0
    cells = [[c.strip() for c in x.strip("│").split("│")] for x in text.splitlines() if "│" in x]
    table = {first: rest for first, *rest in cells}
    a, b = figures(load(slowed_run())), figures(load(sound_run()))
    assert table["steps"] == ["295", "295"]
    assert table["scale-invariant weights"] == ["2 of 10", "2 of 10"]
    assert table["norm"] == [f"{a['norm']:.3g}", f"{b['norm']:.3g}"]
    assert table["angle over equilibrium angle"] == ["", f"{b['angle_over_equilibrium']:.3g}"]
    assert table["share of norm growth from momentum"][0] == f"{100 * a['memory_share']:.0f} %"
    assert table["norms"][0] == f"grew {a['norm_growth']:.1f}-fold"
    assert text.index("Premature slowdown") < text.rindex(str(runs / "good"))
    assert text.rindex(str(runs / "good")) < text.index("Nothing wrong was found")
    times = a["effective_step"] / b["effective_step"]
    slower, faster = ("good", "momentum") if times > 1 else ("momentum", "good")
    compared = text[text.index("Compared") :]
    assert (
        f"the effective step of {faster} is {max(times, 1 / times):.1f} times that of" in compared
    )
    assert "Problems only in momentum: " in compared
    assert slower in compared


def test_an_incomplete_last_line_is_noted(runs, tmp_path, capsys):
    (tmp_path / "cut.csv").write_bytes((runs / "momentum.csv").read_bytes()[:-9])
    code, text = call(capsys, tmp_path / "cut.csv")
    assert code == 0
    assert f"{tmp_path / 'cut.csv'}: the last line is cut off" in " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("gone.csv", None, "No such file: {}. Pass a file written by Monitor"),
        ("mine.csv", b"a,b\n1,2\n", "{} was not written by Monitor, or has other columns. Pass"),
        ("empty.csv", b"", "{} is empty: a run needs at least one log"),
        ("[bold]", b"\n", "{} was not written by Monitor"),
    ],
)
def test_a_file_that_is_no_run_is_refused_in_one_line(name, data, why, runs, tmp_path, capsys):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    for paths in ([path], [runs / "good", path]):
        code, text = call(capsys, *paths)
        assert code == 1
        assert text.startswith(f"Stopped: {why.format(path)}")
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("make", "printed"),
    [
        (lambda p: Path("/dev/zero"), "was not written by Monitor"),
        (lambda p: Path("/dev/null"), "is empty"),
        (lambda p: p, "is empty"),
        (lambda p: (p / "in").mkdir() or p, "was not written by Monitor"),
        (lambda p: Path(sys.executable), "was not written by Monitor"),
        (
            lambda p: (p / "x").write_bytes(encoded([FIELDS]) + bytes(3_000_000)) and p / "x",
            "row 2 is not valid CSV: it is longer than",
        ),
        (lambda p: (p / "x").write_bytes(encoded([FIELDS]) + b'0,"' * 9) and p / "x", "is empty"),
        (
            lambda p: (p / "x").write_bytes(b"\xef\xbb\xbf" + encoded([FIELDS])) and p / "x",
            "is empty",
        ),
        (lambda p: p / "x" / "y", "No such file"),
    ],
    ids=["zero", "null", "folder", "folders", "binary", "zeros", "quotes", "mark", "gone"],
)
def test_a_path_that_is_no_run_is_refused_in_one_line(make, printed, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, text = call(capsys, make(tmp_path))
    lines = [line for line in text.splitlines() if not line.startswith("Note: ")]
    assert code == 1
    assert len(lines) == 1
    assert printed in lines[0]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_csv_that_excel_saved_is_read(end, tmp_path):
    path, whole = tmp_path / "run.csv", encoded([FIELDS, *map(cells, made_up_run())])
    path.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", end))
    (tmp_path / "plain.csv").write_bytes(whole)
    texts = [[x.text for x in diagnose(tmp_path / name)] for name in ("run.csv", "plain.csv")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("label", "why"),
    [
        (b"\xff", "row 21 has the byte 0xff, which is not UTF-8 text"),
        (b"a" * 140_000, "row 21 is not valid CSV: field larger than field limit"),
        (b"all,much", "row 21 is '19,all,much"),
    ],
)
def test_a_bad_row_of_a_csv_is_named(label, why, mark, tmp_path):
    rows = [
        b"%d,%b%b" % (i, label if i == 19 else b"all", b"," * (len(FIELDS) - 2)) for i in range(30)
    ]
    path = tmp_path / "run.csv"
    path.write_bytes(mark + encoded([FIELDS]) + b"\n".join([*rows, b""]))
    with pytest.raises(ValueError, match=rf"run\.csv: {why}"):
        diagnose(path)
