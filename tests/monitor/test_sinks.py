"""A monitor's sinks: what they write, how a run goes on in its file, and what failures leave."""

import csv
import errno
import gc
import math
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy
import pyarrow.dataset
import pyarrow.parquet
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from tangential import AdamP, Monitor
from tangential.monitor import files, sinks, writers
from tangential.monitor.diagnosis import diagnose
from tangential.monitor.lines import AGGREGATES, COLUMNS, FIELDS, long


def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    return model, AdamP(model.parameters(), lr=0.01, weight_decay=0.1)


def train(model, optimizer, steps):
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def logged(*to, steps=6, every=2):
    model, optimizer = small()
    with Monitor(model, optimizer, every, to):
        train(model, optimizer, range(steps))


def same(left, right):
    """Lines equal, NaN equal to itself."""
    return [{k: repr(v) for k, v in x.items()} for x in left] == [
        {k: repr(v) for k, v in x.items()} for x in right
    ]


def values(step):
    return {"all/norm": float(step), "all/equilibrium_rad": math.nan, "a.weight/norm": 0.1 + step}


KINDS = {"csv": sinks.csv, "parquet": lambda path: sinks.parquet(path, flush_every=2)}
both = pytest.mark.parametrize("kind", KINDS)


def log(sink, *steps):
    for step in steps:
        sink(values(step), step)
    sink.close()


def expected(*steps):
    return [line for step in steps for line in long(values(step), step)]


@both
def test_a_file_has_what_memory_has(kind, tmp_path):
    memory = sinks.memory()
    logged(KINDS[kind](tmp_path / "new" / "run"), memory)
    labels = {line["label"] for line in memory}
    assert labels >= {"all", "early", "middle", "0.weight", "2.bias"}
    assert "late" not in labels  # two matrices are early and middle
    assert same(files.read(tmp_path / "new" / "run"), memory)


def test_every_column_of_the_monitor_has_its_place():
    model, optimizer = small()
    model[1].eval()
    told = []
    with Monitor(model, optimizer, 1, lambda v, _: told.append(v), weights=True):
        train(model, optimizer, [0])
    columns = {key.rpartition("/")[2] for key in told[0]}
    # without an audit, and where the gate fires on no weight, these are unknown
    assert columns | {"invariant", "memory_share"} == set(COLUMNS)


@pytest.mark.parametrize("make", [sinks.memory, *KINDS.values()])
@pytest.mark.parametrize("key", ["loss", "all/loss", "/norm"])
def test_nothing_else_is_taken(make, key, tmp_path):
    sink = make() if make is sinks.memory else make(tmp_path / "run")
    with pytest.raises(ValueError, match=f"'{key}' is nothing that a monitor logs.*growth_memory"):
        sink({key: 1.0}, 0)
    log(sink, 5)
    assert sink == expected(5) if make is sinks.memory else files.read(tmp_path / "run")


def test_csv_is_long_and_complete_after_every_log(tmp_path):
    sink = sinks.csv(tmp_path / "run.csv")
    for number, step in enumerate((0, 50, 100), 1):
        sink(values(step), step)
        text = (tmp_path / "run.csv").read_text()
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1 + 2 * number
    rows = [line.split(",") for line in text.splitlines()]
    assert tuple(rows[0]) == FIELDS
    assert {len(row) for row in rows} == {len(FIELDS)}
    place = FIELDS.index("equilibrium_rad")
    assert [row[place] for row in rows[1:3]] == ["nan", ""]


def test_awkward_labels_survive(tmp_path):
    memory, sink = sinks.memory(), sinks.csv(tmp_path / "run")
    for to in (memory, sink):
        to({'a,b"c\nd é/x/norm': 1.0}, 0)
    assert memory[0]["label"] == 'a,b"c\nd é/x'
    assert files.read(tmp_path / "run") == memory


def test_parquet_is_one_data_set_at_any_time(tmp_path):
    sink = sinks.parquet(tmp_path / "run", flush_every=2)
    for step in range(5):
        sink(values(step), step)
        whole = step + 1 - (step + 1) % 2
        assert pyarrow.dataset.dataset(tmp_path / "run").count_rows() == 2 * whole
    sink.close()
    table = pyarrow.parquet.read_table(tmp_path / "run")
    assert table.column_names == list(FIELDS)
    assert table["step"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert table["lr"].null_count == 10
    assert table["equilibrium_rad"].null_count == 5  # NaN is not null


def test_parquet_is_flushed_when_a_run_ends_by_an_exception(tmp_path):
    code = f"""
from tangential.monitor import sinks
sinks.parquet({str(tmp_path / "run")!r})({{"all/norm": 1.0}}, 7)
raise SystemExit(3)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    assert files.read(tmp_path / "run") == [{"step": 7, "label": "all", "norm": 1.0}]


# ---- a run goes on


@both
@pytest.mark.parametrize("again", [4, 5, 7])
def test_a_resumed_run_goes_on_in_its_file(kind, again, tmp_path):
    path = tmp_path / "run"
    log(KINDS[kind](path), 0, 1, 2, 3, 4, 5, 6)
    resumed = KINDS[kind](path)
    log(resumed, *range(again, 9))
    assert same(files.read(path), expected(*range(9)))


@both
def test_a_sink_that_was_closed_goes_on_like_a_new_one(kind, tmp_path):
    """As the callbacks' sinks are when a trainer fits twice."""
    path = tmp_path / "run"
    sink = KINDS[kind](path)
    log(sink, 0, 1, 2, 3)
    log(sink, 2, 3, 4)
    assert same(files.read(path), expected(*range(5)))


def test_a_sink_that_raises_keeps_no_log_from_the_others():
    def broken(values, step):
        raise OSError(errno.ENOSPC, "no space")

    before, after = sinks.memory(), sinks.memory()
    model, optimizer = small()
    with (
        Monitor(model, optimizer, 1, [before, broken, after]),
        pytest.raises(OSError, match="no space"),
    ):
        train(model, optimizer, range(2))
    assert before
    assert same(before, after)


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
    assert same(files.read(tmp_path / "run"), memory)


@both
def test_nothing_is_dropped_before_the_first_log(kind, tmp_path):
    log(KINDS[kind](tmp_path / "run"), 0, 1)
    KINDS[kind](tmp_path / "run").close()
    assert same(files.read(tmp_path / "run"), expected(0, 1))


@both
def test_another_runs_file_is_kept(kind, tmp_path):
    path = tmp_path / "run.x"
    for number in (1, 2):
        log(KINDS[kind](path), 0, number)
        with pytest.warns(UserWarning, match=rf"earlier run's is .*run\.{number}\.x now"):
            log(KINDS[kind](path), 0)
        assert same(files.read(tmp_path / f"run.{number}.x"), expected(0, number))
        assert same(files.read(path), expected(0))
        path.unlink() if kind == "csv" else [*map(Path.unlink, path.iterdir())]


# ---- cut off, foreign, full


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_a_last_line_that_is_cut_off_is_dropped_with_a_warning(cut, tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0, 1, 2)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="last line is cut off"):
        assert same(files.read(path), expected(0, 1, 2)[:-1])
    with pytest.warns(UserWarning, match="last line is cut off"):
        sink = sinks.csv(path)
    log(sink, 3)
    assert same(files.read(path), expected(0, 1, 2)[:-1] + expected(3))


def test_a_cut_within_a_label_of_two_lines_is_found(tmp_path):
    path = tmp_path / "run.csv"
    sink = sinks.csv(path)
    sink({"all/norm": 1.0}, 0)
    whole = path.read_bytes()
    path.write_bytes(whole + b'1,"two\n')
    with pytest.warns(UserWarning, match="cut off"):
        assert files.read(path) == [{"step": 0, "label": "all", "norm": 1.0}]


@pytest.mark.parametrize("length", [0, 3, 40])
def test_a_file_cut_off_in_its_heading_is_begun_again(length, tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(files.encoded([FIELDS])[:length])
    log(sinks.csv(path), 0)
    assert same(files.read(path), expected(0))


@pytest.mark.parametrize(
    "data",
    [b"hello", b"a,b\n1,2\n", b"\xff\xfe\n\n", ",".join(FIELDS[:-1]).encode() + b"\n"],
    ids=["text", "other CSV", "bytes", "other columns"],
)
def test_a_foreign_csv_is_refused_and_left_as_it_is(data, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(data)
    for use in (sinks.csv, files.read):
        with pytest.raises(ValueError, match=r"mine\.csv was not written by .*step,label,norm"):
            use(path)
    assert path.read_bytes() == data


def test_a_foreign_line_is_named(tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0)
    path.write_bytes(path.read_bytes().replace(b"0,a.weight,0.1", b"0,a.weight,much"))
    with pytest.raises(ValueError, match=r"run\.csv: row 3 is '0,a\.weight,much"):
        files.read(path)


def test_a_folder_is_no_csv_and_a_file_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a file, but .* is a folder"):
        sinks.csv(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"path must be a folder, but .* is a file"):
        sinks.parquet(tmp_path / "file")


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for use in (sinks.parquet, files.read):
        with pytest.raises(ValueError, match=r"notes\.txt was not written by Monitor"):
            use(tmp_path)
    (tmp_path / "notes.txt").unlink()
    table = pyarrow.table({"step": [1], "label": ["all"]})
    pyarrow.parquet.write_table(table, tmp_path / "part-000000.parquet")
    with pytest.raises(ValueError, match=r"part-000000\.parquet .* other columns"):
        sinks.parquet(tmp_path)


@pytest.mark.parametrize("flush_every", [0, -1, 1.5])
def test_flush_every_is_checked(flush_every, tmp_path):
    with pytest.raises(ValueError, match=r"flush_every is .* allowed is an integer of 1 or more"):
        sinks.parquet(tmp_path, flush_every=flush_every)


def full_disk(kind, monkeypatch):
    """A disk on which half of what is written finds room."""

    def half(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def half_part(table, file, **_):
        file.write(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    if kind == "csv":
        monkeypatch.setattr(writers, "_write_all", half)
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
                assert len(files.read(path)) == len(memory) // 2  # what was there is there
        assert not list(tmp_path.glob("**/.*"))
        trained = [p.detach().clone() for p in model.parameters()]
        sink.close()
    assert same(files.read(path), memory)
    model, optimizer = small()
    train(model, optimizer, range(full_at + 1))
    assert all(torch.equal(p, q) for p, q in zip(trained, model.parameters(), strict=True))


def test_a_log_that_failed_comes_with_the_next(tmp_path, monkeypatch):
    log(sinks.csv(tmp_path / "run"), 0, 2, 4, 6)
    sink = sinks.csv(tmp_path / "run")
    with monkeypatch.context() as patch:
        full_disk("csv", patch)
        with pytest.raises(OSError, match="step 3"):
            sink(values(3), 3)
    sink(values(5), 5)
    assert same(files.read(tmp_path / "run"), expected(0, 2, 3, 5))


def test_an_unwritable_place_is_named(tmp_path):
    sink = sinks.csv(tmp_path / "gone" / "run.csv")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError, match=r"log of step 0 .*gone/run\.csv"):
        sink(values(0), 0)


# ---- other places


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_takes_aggregates_and_on_request_weights(tmp_path):
    for weights in (False, True):
        logged(sinks.tensorboard(tmp_path / str(weights), weights))
    few, many = scalars(tmp_path / "False"), scalars(tmp_path / "True")
    assert {tag.partition("/")[0] for tag in few} == {"all", "early", "middle"}
    assert [step for step, _ in few["all/norm"]] == [0, 2, 4]
    assert "0.weight/norm" in many
    assert "late/norm" not in many
    assert few.items() <= many.items()


def test_tensorboard_leaves_a_writer_open_and_hides_what_is_repeated(tmp_path):
    writer = SummaryWriter(str(tmp_path / "writer"))
    sinks.tensorboard(writer).close()
    writer.add_scalar("mine", 1.0, 0)
    writer.close()
    assert scalars(tmp_path / "writer") == {"mine": [(0, 1.0)]}
    for steps in ((0, 1, 2), (1, 2)):
        log(sinks.tensorboard(tmp_path / "run"), *steps)
    assert [step for step, _ in scalars(tmp_path / "run")["all/norm"]] == [0, 1, 2]


class Run:
    """Stands for a wandb.Run, with its rule: what is logged below the current step is dropped."""

    def __init__(self):
        self.step, self.rows, self.row, self.dropped, self.defined = 0, [], {}, [], {}

    def define_metric(self, name, step_metric=None):
        self.defined[name] = step_metric

    def log(self, data, step=None, commit=None):
        assert isinstance(data, dict)
        if step is not None and step < self.step:
            self.dropped.append(data)
            return
        if step is not None and step > self.step:
            self._end(step)
        self.row |= data
        if commit or (commit is None and step is None):
            self._end(self.step + 1)

    def _end(self, step):
        self.rows += [self.row] if self.row else []
        self.row, self.step = {}, step

    def finish(self):
        self._end(self.step + 1)


def logs_nothing(run, step):
    pass


def logs_twice(run, step):
    run.log({"loss": step})
    run.log({"accuracy": step})


def logs_twice_by_step(run, step):
    run.log({"loss": step}, step=step)
    run.log({"accuracy": step}, step=step)


def logs_before_the_first(run, step):
    if step == 0:
        for _ in range(50):
            run.log({"pretrained": 1})
    run.log({"loss": step})


@pytest.mark.parametrize(
    "sink",
    [lambda run: sinks.wandb(run), lambda run: run, lambda run: run.log, lambda run: [run.log]],
    ids=["sinks.wandb", "run", "log", "list"],
)
@pytest.mark.parametrize(
    "own", [logs_nothing, logs_twice, logs_twice_by_step, logs_before_the_first]
)
def test_wandb_drops_nothing_of_the_monitor_nor_of_the_loop(own, sink):
    run, memory = Run(), sinks.memory()
    logged(memory)
    model, optimizer = small()
    with Monitor(model, optimizer, 2, sink(run)):
        for step in range(6):
            own(run, step)
            train(model, optimizer, [step])
    run.finish()
    assert not run.dropped
    assert run.defined == {"tangential/step": None, "tangential/*": "tangential/step"}
    ours = [row for row in run.rows if "tangential/step" in row]
    assert [row["tangential/step"] for row in ours] == [0, 2, 4]
    told = [
        line
        for row in ours
        for line in long(
            {
                k.removeprefix("tangential/"): v
                for k, v in row.items()
                if k.startswith("tangential/") and k != "tangential/step"
            },
            row["tangential/step"],
        )
    ]
    assert told == [line for line in memory if line["label"] in AGGREGATES]
    losses = [row["loss"] for row in run.rows if "loss" in row]
    assert losses == ([] if own is logs_nothing else [*range(6)])
    if "twice" in own.__name__:
        assert [row["accuracy"] for row in run.rows if "accuracy" in row] == [*range(6)]


def test_wandb_takes_weights_on_request():
    run = Run()
    logged(sinks.wandb(run, weights=True))
    run.finish()
    assert "tangential/0.weight/norm" in run.rows[0]


@pytest.mark.parametrize("run", [None, 5, "project"])
def test_wandb_needs_a_run(run):
    with pytest.raises(ValueError, match=rf"run must be a W&B run, got {run!r}: call wandb\.init"):
        sinks.wandb(run)


@pytest.mark.parametrize(
    ("call", "library", "hint"),
    [
        ("sinks.parquet('x')", "pyarrow", "pip install 'tangential[lab]'"),
        ("sinks.tensorboard('x')", "tensorboard", "pip install tensorboard"),
    ],
)
def test_what_is_missing_is_said_at_once(call, library, hint, tmp_path):
    code = f"import sys; sys.modules[{library!r}] = None\n"
    code += f"from tangential.monitor import sinks; {call}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (
        f"ModuleNotFoundError: {'Parquet' if library == 'pyarrow' else 'sinks.tensorboard'} "
        f"needs {library}: run {hint}" in result.stderr
    )
    assert not list(tmp_path.iterdir())


def test_sinks_load_nothing_heavier_before_they_are_used():
    code = """
import sys
from tangential.monitor import diagnosis, sinks
print([m for m in ("pyarrow", "tensorboard", "pandas", "rich") if m in sys.modules])"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n"


def test_reading_what_is_not_there(tmp_path):
    said = r"No such file: .*nowhere\. Pass a file written by Monitor"
    with pytest.raises(FileNotFoundError, match=said):
        files.read(tmp_path / "nowhere")
    with warnings.catch_warnings():
        assert files.read(tmp_path) == []


# ---- long files


def many(path, steps, labels=40):
    """A file of more than one block, with labels that have line breaks, quotes and formulas."""
    log_ = {f"{name}/{c}": 1 / 3 for name in range(labels) for c in ("norm", "lr", "cosine")}
    log_ |= {f"{label}/norm": 0.1 for label in ("a\n7,b,1", '"', "=1+1", "x\n\n")}
    sink = sinks.csv(path)
    for step in steps:
        sink(log_, step)
    return [line for step in steps for line in long(log_, step)]


@pytest.mark.parametrize("block", [100, 1000, files.BLOCK])
@pytest.mark.parametrize("again", [0, 1, 37, 59, 60, 99])
def test_a_file_is_gone_on_with_wherever_its_blocks_end(block, again, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", block)
    path = tmp_path / "run.csv"
    written = many(path, range(60))
    found = files.kept(path, again)
    text = path.read_bytes()
    assert (found.lines, found.later) == (again > 0, again < 60)
    assert text[found.end :].startswith(f"{again},0,".encode()) or found.end == len(text)
    if again:
        sink = sinks.csv(path)
        sink({"all/norm": 1.0}, again)
        wanted = [line for line in written if line["step"] < again]
        assert files.read(path) == [*wanted, {"step": again, "label": "all", "norm": 1.0}]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_long_file_that_is_cut_off_anywhere(cut, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 500)
    path = tmp_path / "run.csv"
    written = many(path, range(8))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="cut off"):
        whole = files.read(path)
    assert whole == written[: len(whole)]
    with pytest.warns(UserWarning, match="cut off"):
        sink = sinks.csv(path)
    sink({"all/norm": 1.0}, 99)
    assert files.read(path) == [*whole, {"step": 99, "label": "all", "norm": 1.0}]


def test_notes_at_the_end_of_a_file_are_not_dropped(tmp_path):
    path = tmp_path / "run.csv"
    many(path, range(8))
    path.write_bytes(data := path.read_bytes() + b"learning rate was too high\n8,all,1.0\n")
    with pytest.raises(ValueError, match="a row at its end is 'learning rate was too high'"):
        sinks.csv(path)
    assert path.read_bytes() == data


def peak_mb(work):
    """Megabytes that Python allocates meanwhile, at their most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_long_files_take_little_memory(tmp_path):
    path, folder = tmp_path / "run.csv", tmp_path / "run"
    log_ = {f"{i}.weight/{c}": (i + 1) / 3 for i in range(200) for c in COLUMNS[:15]}
    csv_, parquet = sinks.csv(path), sinks.parquet(folder, flush_every=50)
    for step in range(100):
        csv_(log_, step)
        parquet(log_, step)
    parquet.close()
    size = path.stat().st_size / 2**20
    assert size > 4
    assert peak_mb(lambda: diagnose(path)) < 0.7 * size
    assert peak_mb(lambda: diagnose(folder)) < 3 * size  # a batch of 4,096 lines
    assert peak_mb(lambda: sinks.csv(path)({"all/norm": 1.0}, 90)) < 2
    assert files.read(path)[-1] == {"step": 90, "label": "all", "norm": 1.0}
    assert peak_mb(lambda: log(sinks.parquet(folder), 90)) < 2


@pytest.mark.parametrize(
    "label", ["=1+1", "+a", "-0.weight", "@x", "\tx", "'=1", "''+", "'a", "a=b"]
)
def test_labels_are_no_formulas_and_come_back(label, tmp_path):
    sink = sinks.csv(tmp_path / "run.csv")
    sink({f"{label}/norm": -1.5, "all/norm": 2.0}, 3)
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = [*csv.reader(file)][1:]
    assert not rows[0][1].startswith(("=", "+", "-", "@", "\t"))
    assert rows[0][2] == "-1.5"  # a number is no formula
    assert rows[1][1] == "all"
    assert files.read(tmp_path / "run.csv")[0] == {"step": 3, "label": label, "norm": -1.5}
    assert files.kept(tmp_path / "run.csv", 3).later


def test_labels_of_older_files_are_read_as_they_are(tmp_path):
    sinks.csv(tmp_path / "run.csv")({"x/norm": 1.0}, 3)
    old = (tmp_path / "run.csv").read_bytes().replace(b"3,x", b"3,=x")
    (tmp_path / "run.csv").write_bytes(old)
    assert files.read(tmp_path / "run.csv")[0]["label"] == "=x"


def test_parquet_goes_on_without_reading_what_is_older(tmp_path):
    sink = sinks.parquet(tmp_path / "run", flush_every=2)
    log(sink, *range(8))
    parts = sorted((tmp_path / "run").iterdir())
    before = [part.stat().st_mtime_ns for part in parts]
    sink = sinks.parquet(tmp_path / "run")
    log(sink, 5)
    assert same(files.read(tmp_path / "run"), expected(*range(6)))
    assert [part.stat().st_mtime_ns for part in parts[:2]] == before[:2]


# ---- step numbers, and monitors that share a sink


def test_a_run_goes_on_in_a_file_that_excel_saved(tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0, 1, 2)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    log(sinks.csv(path), 2, 3)
    assert same(files.read(path), expected(0, 1, 2, 3))


class Metrics:
    """A W&B run as far as a sink needs one."""

    def __init__(self):
        self.logged = []

    def define_metric(self, *_, **__):
        pass

    def log(self, values, commit=None):
        self.logged.append(values["tangential/step"])


SINKS = {
    "csv": lambda p: sinks.csv(p / "run.csv"),
    "parquet": lambda p: sinks.parquet(p / "run"),
    "memory": lambda p: sinks.memory(),
    "tensorboard": lambda p: sinks.tensorboard(p / "board"),
    "wandb": lambda p: sinks.wandb(Metrics()),
}


@pytest.mark.parametrize("step", [torch.tensor(3.0), torch.tensor([3]), 3.0, numpy.int64(3)])
@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)
def test_a_sink_takes_an_integral_step_of_any_type(make, step, tmp_path):
    sink = make(tmp_path)
    sink({"all/norm": 2.0}, step)
    getattr(sink, "close", int)()
    steps = {
        "Csv": lambda: [line["step"] for line in files.read(tmp_path / "run.csv")],
        "Parquet": lambda: [line["step"] for line in files.read(tmp_path / "run")],
        "Memory": lambda: [line["step"] for line in sink],
        "TensorBoard": lambda: [event[0] for event in scalars(tmp_path / "board")["all/norm"]],
        "Wandb": lambda: sink.run.logged,
    }[type(sink).__name__]()
    assert steps == [3]
    assert type(steps[0]) is int


@pytest.mark.parametrize("step", [torch.tensor(0.5), True, -1, None])
@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)
def test_a_sink_refuses_other_steps(make, step, tmp_path):
    sink = make(tmp_path)
    with pytest.raises(ValueError, match=r"step must be an integer >= 0, got "):
        sink({"all/norm": 2.0}, step)
    getattr(sink, "close", int)()
    assert not (tmp_path / "run.csv").exists()


def test_a_sink_of_two_open_monitors_is_warned_about(tmp_path):
    sink, pairs = sinks.csv(tmp_path / "run.csv"), [small() for _ in range(3)]
    with Monitor(*pairs[0], 1, sink):
        with pytest.warns(UserWarning, match=r"another open Monitor .* Csv sink \(.*run\.csv\)"):
            second = Monitor(*pairs[1], 1, sink)
        second.close()
    with Monitor(*pairs[2], 1, sink):  # the others are closed
        pass


def test_plain_functions_and_monitors_that_are_gone_share_without_a_warning():
    sink, pairs = sinks.memory(), [small() for _ in range(2)]
    with Monitor(*pairs[0], 1, print), Monitor(*pairs[1], 1, print):
        pass
    monitor = Monitor(*pairs[0], 1, sink)
    del monitor
    pairs[0] = None
    gc.collect()
    Monitor(*pairs[1], 1, sink).close()
