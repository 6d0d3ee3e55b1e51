"""TensorBoard and Weights & Biases: what they receive, and libraries that are missing."""

import subprocess
import sys

import pytest
import torch
from sink_cases import log, logged, scalars, small, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from tangential import AdamP, Monitor
from tangential.monitor import sinks
from tangential.monitor.sinks.rows import AGGREGATES, rows_of_log


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


def test_tensorboard_takes_histograms_of_rows_on_request(tmp_path):
    memory = sinks.memory()
    logged(sinks.tensorboard(tmp_path, rows=True), memory, sinks.tensorboard(tmp_path / "plain"))
    events = EventAccumulator(str(tmp_path), {"histograms": 0})
    events.Reload()
    columns = ("norm", "effective_step", "cosine")
    assert {*events.Tags()["histograms"]} == {
        f"{label}/{name} by row" for label in ("0.weight", "2.weight") for name in columns
    }
    of_weight = {(x["step"], x["label"]): x for x in memory}
    for event in events.Histograms("0.weight/norm by row"):  # of three rows
        squared = event.histogram_value.sum_squares
        assert squared == pytest.approx(of_weight[event.step, "0.weight"]["norm"] ** 2)
        assert event.histogram_value.num == 3
    last = events.Histograms("2.weight/effective_step by row")[-1].histogram_value
    mean_square = last.sum_squares / last.num
    assert mean_square == pytest.approx(of_weight[4, "2.weight"]["effective_step"] ** 2)
    assert "all/norm" in scalars(tmp_path)
    plain = EventAccumulator(str(tmp_path / "plain"))
    plain.Reload()
    assert plain.Tags()["histograms"] == []


@pytest.mark.parametrize("make", [AdamP, torch.optim.SGD])
def test_the_squares_of_rows_add_up_to_those_of_their_weight(make):
    seen, memory = [], sinks.memory()
    wants = lambda values, step: None
    wants.log_units = lambda units, step: seen.append(units)
    model = small()[0]
    optimizer = make(model.parameters(), lr=0.1)
    with Monitor(model, optimizer, 1, [wants, memory]):
        train(model, optimizer, [0])
    for x in memory:
        if f"{x['label']}/norm" in seen[0]:
            norms = seen[0][f"{x['label']}/norm"]
            assert norms.square().sum().sqrt().item() == pytest.approx(x["norm"])
    assert seen[0]["0.weight/cosine"].shape == (3,)


# ---- Weights & Biases


class WandbRun:
    """Stands for a wandb.Run, with its rule: values of a step below its own are dropped."""

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
    run, memory = WandbRun(), sinks.memory()
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
        for line in rows_of_log(
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
    run = WandbRun()
    logged(sinks.wandb(run, weights=True))
    run.finish()
    assert "tangential/0.weight/norm" in run.rows[0]


@pytest.mark.parametrize("run", [None, 5, "project"])
def test_wandb_needs_a_run(run):
    with pytest.raises(ValueError, match=rf"run must be a W&B run, got {run!r}: call wandb\.init"):
        sinks.wandb(run)


# ---- libraries


@pytest.mark.parametrize(
    ("call", "library", "hint"),
    [
        ("sinks.parquet('x')", "pyarrow", "pip install 'tangential[lab]'"),
        ("sinks.tensorboard('x')", "tensorboard", "pip install tensorboard"),
    ],
)
@pytest.mark.slow
def test_a_missing_library_is_named_at_once(call, library, hint, tmp_path):
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


@pytest.mark.slow
def test_sinks_load_no_library_before_they_are_used():
    code = """
import sys
from tangential.monitor import diagnosis, sinks
print([m for m in ("pyarrow", "tensorboard", "pandas", "rich") if m in sys.modules])"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n"
