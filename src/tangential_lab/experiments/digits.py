"""Handwritten digits: scikit-learn's 1,797 images of 8 x 8 and a small convolutional net."""

from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tangential_lab.experiments.data import classes
from tangential_lab.experiments.options import checked
from tangential_lab.training import DataSource, Metric, Split, Task, TensorSplit

SPLIT_SEED = 0  # one split for all: seeds vary the initialisation and the order of the batches


@checked
def digits(*, preset: Literal["mini"] = "mini", data: Path | None = None) -> Task:
    """Classify scikit-learn's digits; a fifth each is kept for tuning and for the test.

    Args:
        preset: There is but one.
        data: Not looked at: the images are embedded.
    """
    return Task(
        name="digits",
        about="scikit-learn's 1,797 handwritten digits (8x8), a convolutional net with BatchNorm",
        data=DataSource(
            "embedded in scikit-learn (UCI, test set of Optical Recognition of Digits)",
            _checksum(),
        ),
        metric=Metric("accuracy", "%", chance_score=0.1),
        epochs=15,
        batch_size=64,
        splits=_splits(),
        model=_model,
        loss=classes.loss,
        predict=classes.predict,
        score=classes.score,
        published={
            "sgd": {"lr": 0.1, "weight_decay": 1e-4},
            "adam": {"lr": 1e-2, "weight_decay": 1e-2},
        },
    )


@cache
def _images() -> Any:
    """Images [1797, 64] and labels [1797]."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _checksum() -> str:
    return sha256(b"".join(array.tobytes() for array in _images())).hexdigest()[:16]


@cache
def _splits() -> dict[str, Split]:
    from sklearn.model_selection import train_test_split

    images, labels = _images()
    keep_apart = partial(train_test_split, test_size=360, random_state=SPLIT_SEED)
    x, x_test, y, y_test = keep_apart(images, labels, stratify=labels)
    x_train, x_validation, y_train, y_validation = keep_apart(x, y, stratify=y)
    splits = {
        "train": (x_train, y_train),
        "validation": (x_validation, y_validation),
        "test": (x_test, y_test),
    }
    return {name: TensorSplit(_pixels(x), torch.as_tensor(y)) for name, (x, y) in splits.items()}


def _pixels(images) -> Tensor:
    """Grey values 0 to 16 [n, 64] as images [n, 1, 8, 8] of mean and deviation about 0 and 1."""
    pixels = torch.as_tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)
    return (pixels - 4.9) / 6.0


def _model() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16),
        *block(16, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
