"""What CSV and Parquet sinks promise: complete logs, resumed runs, no log lost on a full disk."""

import errno
import warnings
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from sink_cases import KINDS, both, expected, log, logged, rows, same, small, train, values

from tangential import Monitor
from tangential.monitor import sinks
from tangential.monitor.sinks import csv_file


@both
def test_a_file_holds_what_memory_holds(kind, tmp_path):
    memory = sinks.memory()
    logged(KINDS[kind](tmp_path / "new" / "run"), memory)
    labels = {line["label"] for line in memory}
    assert labels >= {"all", "early", "middle", "0.weight", "2.bias"}
    assert "late" not in labels  # two matrices are early and middle
    assert same(rows(tmp_path / "new" / "run"), memory)


def test_a_missing_path_is_named(tmp_path):
    said = r"No such file: .*nowhere\. Pass a file written by Monitor"
    with pytest.raises(FileNotFoundError, match=said):
        rows(tmp_path / "nowhere")
    assert rows(tmp_path) == []


# ---- a resumed run


@both
@pytest.mark.parametrize("again", [4, 5, 7])
def test_a_resumed_run_appends_to_its_file(kind, again, tmp_path):
    path = tmp_path / "run"
    log(KINDS[kind](path), 0, 1, 2, 3, 4, 5, 6)
    resumed = KINDS[kind](path)
    log(resumed, *range(again, 9))
    assert same(rows(path), expected(*range(9)))


@both
def test_a_closed_sink_resumes_like_a_new_one(kind, tmp_path):
    """The sinks of a callback are closed after each fit."""
    path = tmp_path / "run"
    sink = KINDS[kind](path)
    log(sink, 0, 1, 2, 3)
    log(sink, 2, 3, 4)
    assert same(rows(path), expected(*range(5)))


@both
def test_resumed_is_uninterrupted(kind, tmp_path):
    model, optimizer = small()
    with Monitor(model, optimizer, 2, KINDS[kind](tmp_path / "run")):
        train(model, optimizer, range(4))
        states = [{k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()]
        states[1] = {
            **states[1],
            "state": {
                k: {n: x.clone() if torch.is_tensor(x) else x for n, x in s.items()}
                for k, s in states[1]["state"].items()
            },
        }
        train(model, optimizer, range(4, 7))  # a crash after the checkpoint
    model, optimizer = small()
    model.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    with Monitor(model, optimizer, 2, KINDS[kind](tmp_path / "run"), step=4):
        train(model, optimizer, range(4, 10))
    memory = sinks.memory()
    logged(memory, steps=10)
    assert same(rows(tmp_path / "run"), memory)


@both
def test_nothing_is_dropped_before_the_first_log(kind, tmp_path):
    log(KINDS[kind](tmp_path / "run"), 0, 1)
    KINDS[kind](tmp_path / "run").close()
    assert same(rows(tmp_path / "run"), expected(0, 1))


@both
def test_a_file_of_another_run_is_renamed(kind, tmp_path):
    path = tmp_path / "run.x"
    for number in (1, 2):
        log(KINDS[kind](path), 0, number)
        with pytest.warns(UserWarning, match=rf"file of the earlier run is .*run\.{number}\.x now"):
            log(KINDS[kind](path), 0)
        assert same(rows(tmp_path / f"run.{number}.x"), expected(0, number))
        assert same(rows(path), expected(0))
        path.unlink() if kind == "csv" else [*map(Path.unlink, path.iterdir())]


@both
@pytest.mark.parametrize("other_step", [0, 2])  # its file is a new one, or the same
def test_a_second_process_is_noticed(kind, other_step, tmp_path):
    """For instance, all processes of torchrun."""
    path = tmp_path / "run"
    sink, other = KINDS[kind](path), KINDS[kind](path)
    for step in range(4):
        sink(values(step), step)
    with warnings.catch_warnings(action="ignore"):
        log(other, other_step, 4, 6)
    with pytest.warns(UserWarning, match="run was changed since the last log, not by this monitor"):
        log(sink, 4, 5)


@both
def test_a_file_that_was_moved_away_is_begun_again(kind, tmp_path):
    sink = KINDS[kind](tmp_path / "run")
    for step in range(4):
        sink(values(step), step)
    (tmp_path / "run").rename(tmp_path / "old")
    log(sink, 4, 5)
    assert same(rows(tmp_path / "run"), expected(4, 5))


# ---- a full disk


def full_disk(kind, monkeypatch):
    """A disk that has space for half of what is written."""

    def half(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def half_part(table, file, **_):
        file.write(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    if kind == "csv":
        monkeypatch.setattr(csv_file, "_write_all", half)
    else:
        monkeypatch.setattr(pyarrow.parquet, "write_table", half_part)


@pytest.mark.parametrize("full_at", [0, 2])
@both
def test_a_full_disk_costs_neither_step_nor_log(kind, full_at, tmp_path, monkeypatch):
    path = tmp_path / "run"
    sink = sinks.csv(path) if kind == "csv" else sinks.parquet(path, flush_every=1)
    memory = sinks.memory()
    model, optimizer = small()
    with Monitor(model, optimizer, 2, [memory, sink]):
        train(model, optimizer, range(full_at))
        with monkeypatch.context() as patch:
            full_disk(kind, patch)
            message = rf"log of step {full_at} could not be written: No space.*step is complete"
            with pytest.raises(OSError, match=message) as raised:
                train(model, optimizer, [full_at])
            assert raised.value.errno == errno.ENOSPC
            assert raised.value.filename == str(path)
            if full_at:
                assert len(rows(path)) == len(memory) // 2  # earlier logs are still there
        assert not list(tmp_path.glob("**/.*"))
        trained = [p.detach().clone() for p in model.parameters()]
        sink.close()
    assert same(rows(path), memory)
    model, optimizer = small()
    train(model, optimizer, range(full_at + 1))
    assert all(torch.equal(p, q) for p, q in zip(trained, model.parameters(), strict=True))


def test_a_log_that_failed_is_written_with_the_next(tmp_path, monkeypatch):
    log(sinks.csv(tmp_path / "run"), 0, 2, 4, 6)
    sink = sinks.csv(tmp_path / "run")
    with monkeypatch.context() as patch:
        full_disk("csv", patch)
        with pytest.raises(OSError, match="step 3"):
            sink(values(3), 3)
    sink(values(5), 5)
    assert same(rows(tmp_path / "run"), expected(0, 2, 3, 5))


def test_an_unwritable_path_is_named(tmp_path):
    sink = sinks.csv(tmp_path / "gone" / "run.csv")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError, match=r"log of step 0 .*gone/run\.csv"):
        sink(values(0), 0)
