"""Train with Lightning in bf16-mixed precision, and let the monitor write a log for `diagnose`."""

from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tangential import AdamP
from tangential.integrations.lightning import LightningMonitor
from tangential.monitor import diagnose
from tangential.monitor.sinks import csv


class Digits(L.LightningModule):
    """Two convolutions before BatchNorm: their weights are scale-invariant, by output channel."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> AdamP:
        return AdamP(self.parameters(), lr=3e-3, weight_decay=1e-2)


def main() -> float:
    """Train; return the test accuracy."""
    L.seed_everything(0, verbose=False)
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images / 16).float().view(-1, 1, 8, 8), torch.tensor(labels)
    loader = DataLoader(TensorDataset(images[:1437], labels[:1437]), 64, shuffle=True)
    module = Digits()
    with TemporaryDirectory() as folder:
        monitor = LightningMonitor(every=5, sinks=[csv(f"{folder}/run.csv")])
        options: dict[str, Any] = {"precision": "bf16-mixed", "gradient_clip_val": 1.0}
        quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
        trainer = L.Trainer(max_epochs=5, callbacks=[monitor], **options, **quiet)
        trainer.fit(module, loader)
        for verdict in diagnose(f"{folder}/run.csv"):
            print(verdict.text)
    module.eval()
    with torch.no_grad():
        return float((module.net(images[1437:]).argmax(-1) == labels[1437:]).float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
