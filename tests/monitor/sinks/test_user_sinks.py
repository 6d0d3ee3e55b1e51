"""Any sink: what a log may hold, its step number, and monitors that share a sink."""

import errno
import gc

import numpy
import pytest
import torch
from sink_cases import KINDS, expected, log, rows, same, scalars, small, train

from tangential import Monitor
from tangential.monitor import sinks
from tangential.monitor.sinks.rows import COLUMNS


def test_every_column_of_the_monitor_has_a_place_in_files():
    model, optimizer = small()
    model[1].eval()
    told = []
    with Monitor(model, optimizer, 1, lambda v, _: told.append(v), weights=True):
        train(model, optimizer, [0])
    columns = {key.rpartition("/")[2] for key in told[0]}
    # these two need an audit, or a weight on which the gate fires
    assert columns | {"invariant", "memory_share"} == set(COLUMNS)


@pytest.mark.parametrize("make", [sinks.memory, *KINDS.values()])
@pytest.mark.parametrize("key", ["loss", "all/loss", "/norm"])
def test_other_values_are_refused(make, key, tmp_path):
    sink = make() if make is sinks.memory else make(tmp_path / "run")
    with pytest.raises(ValueError, match=f"'{key}' is not a key that a monitor logs.*memory"):
        sink({key: 1.0}, 0)
    log(sink, 5)
    assert sink == expected(5) if make is sinks.memory else rows(tmp_path / "run")


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


# ---- step numbers


class Metrics:
    """What a sink needs of a W&B run."""

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
        "Csv": lambda: [line["step"] for line in rows(tmp_path / "run.csv")],
        "Parquet": lambda: [line["step"] for line in rows(tmp_path / "run")],
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


# ---- monitors that share a sink


def test_two_open_monitors_with_one_sink_warn(tmp_path):
    sink, pairs = sinks.csv(tmp_path / "run.csv"), [small() for _ in range(3)]
    with Monitor(*pairs[0], 1, sink):
        with pytest.warns(UserWarning, match=r"another open Monitor .* Csv sink \(.*run\.csv\)"):
            second = Monitor(*pairs[1], 1, sink)
        second.close()
    with Monitor(*pairs[2], 1, sink):  # the others are closed
        pass


@pytest.mark.slow
def test_a_function_or_a_deleted_monitor_shares_a_sink_without_warning():
    sink, pairs = sinks.memory(), [small() for _ in range(2)]
    with Monitor(*pairs[0], 1, print), Monitor(*pairs[1], 1, print):
        pass
    monitor = Monitor(*pairs[0], 1, sink)
    del monitor
    pairs[0] = None
    gc.collect()
    Monitor(*pairs[1], 1, sink).close()
