"""Handwritten digits: scikit-learn's 1,797 images of 8 x 8 and a small convolutional net."""

from functools import partial

import torch
from torch import Tensor, nn

from tangential.lab.task import Task

SPLIT_SEED = 0  # one split for all: seeds vary the initialisation and the order of the batches


def digits() -> Task:
    """Classify scikit-learn's digits; a fifth each is kept for tuning and for the report."""
    return Task(
        name="digits",
        about="scikit-learn's 1,797 handwritten digits (8x8), a convolutional net with BatchNorm",
        data="embedded in scikit-learn (UCI, test set of Optical Recognition of Digits)",
        metric="accuracy",
        epochs=15,
        batch_size=64,
        splits=_splits,
        model=_model,
        loss=nn.functional.cross_entropy,
        score=_accuracy,
        invariant=_before_batch_norm,
    )


def _splits() -> dict[str, tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    keep_apart = partial(train_test_split, test_size=360, random_state=SPLIT_SEED)
    x, x_report, y, y_report = keep_apart(images, labels, stratify=labels)
    x_train, x_tune, y_train, y_tune = keep_apart(x, y, stratify=y)
    splits = {
        "train": (x_train, y_train),
        "tune": (x_tune, y_tune),
        "report": (x_report, y_report),
    }
    return {name: (_pixels(x), torch.as_tensor(y)) for name, (x, y) in splits.items()}


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


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    return (outputs.argmax(1) == labels).float().mean().item()


def _before_batch_norm(model: nn.Module) -> list[Tensor]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
