"""Runs of Hugging Face's Trainer."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from trainings import BATCH, OPTIMIZERS, ROWS, STEPS, by_hand, data, layers

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")


class Net(nn.Module):
    """A model for the Trainer: takes labels, returns the loss."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(*layers())

    def forward(self, x, labels):
        return {"loss": cross_entropy(self.net(x), labels)}


class Rows(torch.utils.data.Dataset):
    def __init__(self, fails_at=None):
        self.x, self.labels = data()
        self.fails_at = fails_at

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        if i == self.fails_at:
            raise ArithmeticError("the data are at an end")
        return {"x": self.x[i], "labels": self.labels[i]}


class Integration(transformers.TrainerCallback):
    """An integration that records what the Trainer logs."""

    def __init__(self):
        self.recorded = []

    def on_log(self, args, state, control, logs=None, **_):
        self.recorded.append((state.global_step, dict(logs)))


def hugging_face(folder, name="AdamP", callbacks=(), fails_at=None, **options):
    usual = {
        "disable_tqdm": True,
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "max_steps": STEPS,
        "output_dir": folder,
        "per_device_train_batch_size": BATCH,
        "report_to": "none",
        "save_strategy": "no",
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
    }
    model = Net()
    return transformers.Trainer(
        model,
        transformers.TrainingArguments(**(usual | options)),
        train_dataset=Rows(fails_at),
        callbacks=list(callbacks),
        optimizers=(OPTIMIZERS[name](model.parameters()), None),
    )


def net_by_hand(name, **options):
    net = Net()
    net.configure_optimizers = lambda: OPTIMIZERS[name](net.parameters())
    return by_hand(net, lambda batch: net(*batch)["loss"], **options)


def monitored(recorded):
    """The logs of a Trainer that come from the monitor."""
    return [(step, values) for step, values in recorded if "all/norm" in values]
