"""The pictures and the page of monitored runs."""

import math

import diagnosed_runs
import pytest
from processes import call

from tangential.monitor import load
from tangential.monitor.sinks.csv_file import Csv
from tangential_lab.reports.runs import run_figures, write_runs


def rows(value, *, labels=("a.weight", "b.weight", "c.weight"), steps=range(0, 50, 10), **columns):
    """Logs whose norm is `value(step, number of the weight)`."""
    return [
        {"step": step, "label": label, "norm": value(step, i), "grad_norm": 1.0, **columns}
        for step in steps
        for i, label in enumerate(labels)
    ]


def line(figure, title, name):
    [panel] = [panel for panel in figure.panels if panel.title == title]
    return next(series for series in panel.series if series.name == name)


def test_a_line_is_the_median_over_the_invariant_weights_with_its_quartiles():
    log = rows(lambda step, i: step + 10.0**i, invariant=1.0)
    log += rows(lambda *_: 1e9, labels=("head.weight",), invariant=0.0)
    [figure] = run_figures({"run": load(log)})
    norm = line(figure, "Weight norm", "run")
    assert list(norm.x) == [0, 10, 20, 30, 40]
    assert norm.y == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert norm.low[0] == pytest.approx(5.5)
    assert norm.high[0] == pytest.approx(55.0)


def test_without_an_invariant_weight_all_weights_are_shown():
    log = rows(lambda step, i: 3.0, invariant=0.0)
    [figure] = run_figures({"run": load(log)})
    assert line(figure, "Weight norm", "run").y == [3.0] * 5


def test_values_that_are_not_finite_leave_a_line_as_it_is():
    log = rows(lambda step, i: math.inf if step == 20 and i else 1.0, invariant=1.0)
    [figure] = run_figures({"run": load(log)})
    assert line(figure, "Weight norm", "run").y == [1.0] * 5


def test_growth_counts_for_all_steps_since_the_last_log():
    log = rows(lambda *_: 1.0, invariant=1.0, growth_step=0.5)
    [figure] = run_figures({"run": load(log)})
    assert line(figure, "Growth by the length of the steps", "run").y == [
        0.5,
        5.5,
        10.5,
        15.5,
        20.5,
    ]


def test_many_steps_are_thinned():
    log = rows(lambda step, i: step, steps=range(3000), invariant=1.0)
    [figure] = run_figures({"run": load(log)})
    norm = line(figure, "Weight norm", "run")
    assert len(norm.x) == 200
    assert norm.x[0] == 7.0
    assert norm.y[-1] == 2992.0


def test_an_angle_is_shown_with_its_equilibrium_and_the_end_of_a_schedule_sets_no_scale():
    log = [
        row | {"angle_rad": 0.02 if row["step"] < 40 else 1e-9, "equilibrium_rad": 0.03}
        for row in rows(lambda *_: 1.0, invariant=1.0)
    ]
    [figure] = run_figures({"run": load(log)})
    assert line(figure, "Effective step", "run, equilibrium").y == [pytest.approx(0.03)] * 5
    low, high = next(p for p in figure.panels if p.title == "Effective step").y.limits
    assert 0.015 < low < 0.02 < 0.03 < high < 0.04


@pytest.mark.slow
def test_a_page_overlays_runs_and_has_their_verdicts(tmp_path):
    runs = {
        "slowed": load(diagnosed_runs.slowed_run()),
        "sound <b>": load(diagnosed_runs.sound_run()),
    }
    page, *pictures = write_runs(runs, tmp_path)
    text = page.read_text("utf-8")
    assert "Premature slowdown" in text
    assert "Nothing wrong was found" in text
    assert "To change: Project these weights" in text
    assert "<h2>Compared</h2>" in text
    assert "Problems only in slowed: " in text
    assert "sound &lt;b&gt;, equilibrium" in text
    assert "slowed, equilibrium" not in text  # it has no decay
    names = ["training.png", "training.svg", "layers.png", "layers.svg"]
    assert [path.name for path in pictures] == names
    assert all(path.stat().st_size > 5_000 for path in pictures)


def test_a_run_without_single_weights_is_refused_before_anything_is_written(tmp_path):
    means = load([{"step": step, "label": "all", "norm": 2.0} for step in (0, 50)])
    with pytest.raises(
        ValueError, match="means has means over weights, but no values of single weights"
    ):
        write_runs({"means": means}, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


@pytest.mark.parametrize(
    ("audited", "words"), [(True, "as the audit proved"), (False, "as the gate decided")]
)
@pytest.mark.slow
def test_a_page_says_why_weights_count_as_invariant(audited, words, tmp_path):
    mark = {"invariant": 1.0} if audited else {"gate_row": 1.0}
    [page, *_] = write_runs({"run": load(rows(lambda *_: 1.0, **mark))}, tmp_path)
    assert f"3 of 3 weights, scale-invariant {words}" in page.read_text("utf-8")


@pytest.fixture
def logs(tmp_path):
    """Two logs with the same name, in two folders."""
    paths = [tmp_path / folder / "run.csv" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        log = Csv(path)
        for row in rows(lambda step, i: 1.0 + step, labels=("w",)):
            log({f"w/{name}": row[name] for name in ("norm", "grad_norm")}, row["step"])
    return paths


@pytest.mark.slow
def test_the_command_writes_a_page_and_names_what_is_wrong(logs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, "plot", *logs)
    assert (status, err) == (0, "")
    assert "plots/report.html" in out.replace("\n", "")
    text = (tmp_path / "plots" / "report.html").read_text("utf-8")
    assert all(str(path) in text for path in logs)
    for arguments, words in (
        (("missing.csv",), "No such file: missing.csv"),
        ((logs[0], logs[0]), "every run must be given once"),
        ((logs[0], "--out", logs[1]), "File exists"),
    ):
        status, _, err = call(capsys, "plot", *arguments)
        assert status != 0
        assert words in " ".join(err.split())
        assert "Traceback" not in err
