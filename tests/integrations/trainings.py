"""A small training by hand, which trainers are compared with, and a sink that records."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import AdamP, Monitor

OPTIMIZERS = {
    "AdamP": partial(AdamP, lr=0.01, weight_decay=0.1),
    "SGD": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3),
}


every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


ROWS, BATCH, EVERY = 80, 8, 3


STEPS = ROWS // BATCH


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def batches(batch=BATCH):
    return DataLoader(TensorDataset(*data()), batch)


def layers():
    torch.manual_seed(2)
    return [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)]


class Recorder(list):
    """A sink that keeps its logs, and whether it was closed."""

    closed = False

    def __call__(self, values, step):
        self.append((step, values))

    def close(self):
        self.closed = True

    @property
    def steps(self):
        return [step for step, _ in self]

    def exactly(self):
        """All logs as text, so that every bit counts and NaN equals NaN."""
        return repr(list(self))


def has_hooks(optimizer):
    hooks = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
    return bool(hooks) or getattr(optimizer, "watch", None) is not None


def by_hand(model, loss_of, accumulate=1, scaler=None, epochs=1, batch=BATCH):
    """What a monitor logs in a loop by hand."""
    recorded, scaler = Recorder(), scaler or torch.amp.GradScaler("cpu", enabled=False)
    optimizer = model.configure_optimizers()
    with Monitor(model, optimizer, EVERY, lambda values, _: recorded(values, step)):
        for number, rows in enumerate([*batches(batch)] * epochs):
            scaler.scale(loss_of(rows) / accumulate).backward()
            step, part = divmod(number, accumulate)
            if part == accumulate - 1:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    return recorded


def finite(values):
    return all(math.isfinite(value) for value in values.values())
