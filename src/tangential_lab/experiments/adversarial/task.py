"""Adversarial training: a net learns to classify images that were changed to mislead it."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tangential_lab.experiments.adversarial.attack import Attack
from tangential_lab.experiments.adversarial.wide_resnet import wide_resnet
from tangential_lab.experiments.data import embedded, images
from tangential_lab.experiments.data.augment import mirrored, scaled, shifted
from tangential_lab.experiments.data.splits import hold_out
from tangential_lab.experiments.options import checked
from tangential_lab.training import Metric, Task, TensorSplit

HELD_OUT = 10  # one in HELD_OUT training images of CIFAR-10 is for validation
SLOPE = 0.1  # of LeakyReLU for negative inputs
RADII = {  # of the ball that contains all attacked images
    "paper": {"linf": 4 / 255, "l2": 80 / 255},
    "mini": {"linf": 0.15, "l2": 1.0},  # digits of 8 x 8 are harder to mislead
}
DROPS = (40_000 / 78_200, 60_000 / 78_200)  # of the learning rate, in steps of the published run


@checked
def adversarial(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    norm: Literal["linf", "l2"] = "linf",
    step: Literal["sign", "gradient"] = "sign",
    train: Literal["adversarial", "clean"] = "adversarial",
) -> Task:
    """Classify images attacked by ten steps of projected gradient descent.

    Args:
        preset: "mini" is WRN-10-2 on scikit-learn's digits; "paper" is WRN-34-10 on CIFAR-10,
            where one in ten training images is for validation.
        data: Folder of all data sets: "cifar-10-batches-py" for "paper".
        norm: Norm of the ball around an image that contains all attacked images.
        step: "sign" moves every pixel by half the radius of the maximum norm, as published for
            both norms; "gradient", only for l2, moves an image along its gradient by a quarter of
            the radius, as in textbooks.
        train: Train on attacked images, or on clean ones for comparison.

    Raises:
        ValueError: step is "gradient" with the maximum norm.
        DataError: the data are missing or broken.
    """
    if (norm, step) == ("linf", "gradient"):
        raise ValueError("step must be 'sign' with norm 'linf', got 'gradient'")
    radii = RADII[preset]
    size = radii["linf"] / 2 if step == "sign" else radii["l2"] / 4
    attack = Attack(norm, radii[norm], size, step)
    settings = _digits() if preset == "mini" else _cifar10(data)
    return Task(
        name="adversarial",
        metric=Metric("attacked accuracy", "%", chance_score=0.1),
        loss=partial(_loss, attack if train == "adversarial" else None),
        predict=partial(_predict, attack),
        score=_score,
        audit_loss=partial(_loss, None),
        **settings,
    )


def _digits() -> dict[str, Any]:
    source = embedded.digits()
    pixels = source.pixels / 16
    return {
        "about": "scikit-learn's 1,797 handwritten digits (8x8), WRN-10-2 with LeakyReLU(.1)",
        "data": source.data,
        "epochs": 30,
        "batch_size": 64,
        "splits": {k: TensorSplit(pixels[i], source.labels[i]) for k, i in source.splits.items()},
        "model": partial(wide_resnet, 10, 2, channels=1, slope=SLOPE),
        "published": {
            "sgd": {"lr": 0.1, "weight_decay": 5e-4},
            "adam": {"lr": 1e-2, "weight_decay": 1e-2},
        },
    }


def _cifar10(data: Path | None) -> dict[str, Any]:
    source = images.cifar10(data, download=False)
    train, validation = hold_out(len(source.train), HELD_OUT)
    seen = partial(images.tensors, source.train, source.train_labels)
    test = images.tensors(source.test, source.test_labels)
    return {
        "about": "CIFAR-10, WRN-34-10 with LeakyReLU(.1)",
        "data": source.data,
        "epochs": 200,
        "batch_size": 128,
        "splits": {
            "train": TensorSplit(*seen(train), augment=_augmented),
            "validation": TensorSplit(*seen(validation), augment=scaled),
            "test": TensorSplit(*test, augment=scaled),
        },
        "model": partial(wide_resnet, 34, 10, slope=SLOPE),
        "schedule": _steps,
        "published": {  # except Adam's learning rate, which no source states
            "sgd": {"lr": 0.1, "weight_decay": 2e-4},
            "adam": {"lr": 1e-3, "weight_decay": 2e-4},
        },
    }


def _augmented(batch: Tensor) -> Tensor:
    return scaled(mirrored(shifted(batch)))


def _steps(done: float) -> float:
    return 0.1 ** sum(done >= drop for drop in DROPS)


def _loss(attack: Attack | None, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, labels = batch
    if attack:
        inputs = attack(getattr(model, "module", model), inputs, labels, random_start=True)
    return nn.functional.cross_entropy(model(inputs), labels)


def _predict(attack: Attack, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    inputs, labels = batch
    attacked = attack(getattr(model, "module", model), inputs, labels, random_start=False)
    return model(inputs).float().cpu(), model(attacked).float().cpu(), labels.cpu()


def _score(predictions: list[tuple[Tensor, ...]]) -> dict[str, float]:
    clean, attacked, labels = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    return {
        "attacked accuracy": (attacked.argmax(1) == labels).float().mean().item(),
        "clean accuracy": (clean.argmax(1) == labels).float().mean().item(),
        "loss": nn.functional.cross_entropy(attacked, labels).item(),
    }
