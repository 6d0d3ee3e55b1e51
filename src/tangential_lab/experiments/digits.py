"""Handwritten digits: scikit-learn's 1,797 images of 8 x 8 and a small convolutional net."""

from pathlib import Path
from typing import Literal

from torch import nn

from tangential_lab.experiments.data import embedded
from tangential_lab.experiments.data.losses import CLASSIFICATION
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import untuned
from tangential_lab.training import Metric, Task


@checked
def digits(*, preset: Literal["mini"] = "mini", data: Path | None = None) -> Task:
    """Classify scikit-learn's digits; a fifth is for validation and a fifth for the test.

    Not an experiment of the paper.

    Args:
        preset: There is only one.
        data: Not used: the images are embedded in scikit-learn.
    """
    source, splits = embedded.digits(mean=4.9, deviation=6.0)
    return Task(
        name="digits",
        about="scikit-learn's 1,797 handwritten digits (8x8), a convolutional net with BatchNorm",
        data=source,
        metric=Metric("accuracy", "%", chance_score=0.1),
        epochs=15,
        batch_size=64,
        splits=splits,
        model=_model,
        # except for Adam's coupled decay: lr * weight_decay * steps is about 1, times 1 - momentum
        published=untuned(sgd=(0.1, 4e-3), adam=(1e-2, 1e-2), adamw=(1e-2, 0.4), adamp=(1e-2, 0.4)),
        **CLASSIFICATION,
    )


def _model() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
