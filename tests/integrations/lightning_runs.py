"""Modules and runs of Lightning's Trainer."""

import csv

import pytest
from torch import nn
from torch.nn.functional import cross_entropy
from trainings import BATCH, OPTIMIZERS, batches, layers

L = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

quiet = [
    # Lightning advises to load data in separate processes, which eight rows do not need.
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    # Lightning uses a function of torch that is deprecated.
    pytest.mark.filterwarnings(
        "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
    ),
    # Lightning's logger finds the folder of the run that is resumed.
    pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty"),
]


class Task:
    """A net, an optimizer, and a batch at which the data raise."""

    def __init__(self, name="AdamP", fails_at=None):
        super().__init__()
        self.net = nn.Sequential(*layers())
        self.make, self.fails_at = OPTIMIZERS[name], fails_at

    def loss(self, batch):
        x, y = batch
        return cross_entropy(self.net(x), y)

    def training_step(self, batch, number):
        if number == self.fails_at:
            raise ArithmeticError("the data are at an end")
        loss = self.loss(batch)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return self.make(self.parameters())


class Module(Task, L.LightningModule):
    pass


class Players(L.LightningModule):
    """Two nets in turn: the second takes two steps for each of the first."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = (nn.Sequential(*layers()) for _ in range(2))

    def training_step(self, batch, number):
        x, y = batch
        first, second = self.optimizers()
        for optimizer, net in [(first, self.first), (second, self.second), (second, self.second)]:
            optimizer.zero_grad()
            self.manual_backward(cross_entropy(net(x), y))
            optimizer.step()

    def configure_optimizers(self):
        return [OPTIMIZERS["AdamP"](net.parameters()) for net in (self.first, self.second)]


def trainer_of(folder, *monitors, package=L, **options):
    usual = {
        "accelerator": "cpu",
        "callbacks": list(monitors),
        "default_root_dir": folder,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
        "logger": package.loggers.CSVLogger(folder, version="0"),
        "max_epochs": 1,
    }
    return package.Trainer(**(usual | options))


def fit(folder, model, *monitors, ckpt_path=None, batch=BATCH, **options):
    trainer = trainer_of(folder, *monitors, **options)
    trainer.fit(model, batches(batch), ckpt_path=ckpt_path)
    return trainer


def logged(folder, column):
    """Steps and values of a column in Lightning's CSV file."""
    with open(folder / "lightning_logs" / "0" / "metrics.csv") as file:
        return [(int(r["step"]), float(r[column])) for r in csv.DictReader(file) if r[column]]


def steps_of(label, recorded):
    """The steps at which an optimizer was logged."""
    return [step for step, values in recorded if f"{label}/all/norm" in values]
