"""Train with Hugging Face's Trainer and the monitor: AdamP on the units that an audit proves."""

from tempfile import TemporaryDirectory
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from tangential import AdamP, audit
from tangential.integrations.transformers import TransformersMonitor, decay_groups


class Model(nn.Module):
    """Convolutions before GroupNorm: a group of channels is one scale-invariant unit."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.GroupNorm(4, 16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.GroupNorm(4, 32)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
        )

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main() -> float:
    """Train; return the test accuracy."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16).float().view(-1, 1, 8, 8)
    rows: Any = [{"x": x, "labels": int(y)} for x, y in zip(images, labels, strict=True)]
    model, batch = Model(), {"x": images[:64], "labels": torch.tensor(labels[:64])}
    found = audit(model, [batch])
    optimizer = AdamP(decay_groups(model, weight_decay=0.01, audit=found), lr=3e-3)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=5,
            per_device_train_batch_size=64,
            logging_steps=20,
            report_to="none",
            save_strategy="no",
        )
        trainer = Trainer(model, arguments, train_dataset=rows[:1437], optimizers=(optimizer, None))
        with TransformersMonitor(trainer, every=20):  # norms and angles, beside the loss
            trainer.train()
        logits: Any = trainer.predict(rows[1437:]).predictions
    return float((logits.argmax(-1) == labels[1437:]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
