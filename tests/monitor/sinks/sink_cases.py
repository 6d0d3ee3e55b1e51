"""What the tests of sinks share: a small training, logs by hand, and the rows of a file."""

import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from tangential import AdamP, Monitor
from tangential.monitor import sinks
from tangential.monitor.diagnosis.runs import read
from tangential.monitor.sinks.rows import rows_of_log


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


def rows(path):
    return [*read(path)]


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def same(left, right):
    """Whether lines are equal, with NaN equal to NaN."""
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
    return [line for step in steps for line in rows_of_log(values(step), step)]
