"""Adversarial training: a net learns to classify images that were changed to mislead it."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tangential_lab.experiments.adversarial.attack import Attack
from tangential_lab.experiments.adversarial.wide_resnet import wide_resnet
from tangential_lab.experiments.data import embedded, images
from tangential_lab.experiments.data.losses import accuracy, classification_loss, joined
from tangential_lab.experiments.data.splits import check_held_out, hold_out
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import ADAM_AND_ADAMW, step_schedule, untuned
from tangential_lab.training import Metric, Task

HELD_OUT = 10  # one in HELD_OUT training images of CIFAR-10 is for validation
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
    held_out: bool = True,
) -> Task:
    """Classify images attacked by ten steps of projected gradient descent.

    Differences from the paper: by default one in ten training images is for validation. Learning
    rates, 1e-3 for Adam and its family, are our choice: no source states them. Unlike in Madry et
    al., images are not standardised one by one.

    Args:
        preset: "mini" is WRN-10-2 on scikit-learn's digits; "paper" is WRN-34-10 on CIFAR-10, with
            Madry's shortcuts: average pooling and zeros for new channels.
        data: Folder of all data sets: "cifar-10-batches-py" for "paper".
        norm: Norm of the ball around an image that contains all attacked images.
        step: "sign" moves every pixel by half the radius of the maximum norm, as published for
            both norms; "gradient", only for l2, moves an image along its gradient by a quarter of
            the radius, as in textbooks.
        train: Train on attacked images, or on clean ones for comparison.
        held_out: For "paper": hold images out for validation; without them, there can be no search.

    Raises:
        ValueError: step is "gradient" with the maximum norm, "mini" is not held out, or the data
            are missing or broken.
    """
    check_held_out(preset, held_out=held_out)
    if (norm, step) == ("linf", "gradient"):
        raise ValueError("step must be 'sign' with norm 'linf', got 'gradient'")
    radii = RADII[preset]
    size = radii["linf"] / 2 if step == "sign" else radii["l2"] / 4
    attack = Attack(norm, radii[norm], size, step)
    settings = _digits() if preset == "mini" else _cifar10(data, held_out=held_out)
    return Task(
        name="adversarial",
        metric=Metric("attacked accuracy", "%", chance_score=0.1),
        loss=partial(_attacked_loss, attack) if train == "adversarial" else classification_loss,
        predict=partial(_predict, attack),
        score=_score,
        audit_loss=classification_loss,
        baselines=ADAM_AND_ADAMW,
        **settings,
    )


def _digits() -> dict[str, Any]:
    source, splits = embedded.digits(mean=0.0, deviation=16.0)
    return {
        "about": "scikit-learn's 1,797 handwritten digits (8x8), WRN-10-2 with LeakyReLU(.1)",
        "data": source,
        "epochs": 30,
        "batch_size": 64,
        "splits": splits,
        "model": partial(wide_resnet, 10, 2, channels=1),
        "published": untuned(sgd=(0.1, 5e-4), adam=(1e-2, 1e-2)),
    }


def _cifar10(data: Path | None, *, held_out: bool) -> dict[str, Any]:
    source = images.cifar10(data, download=False)
    by_split = hold_out(len(source.train), HELD_OUT, held_out=held_out)
    return {
        "about": "CIFAR-10, WRN-34-10 with LeakyReLU(.1)",
        "data": source.data,
        "epochs": 200,
        "batch_size": 128,
        "splits": images.image_splits(source, by_split),
        "model": partial(wide_resnet, 34, 10, shortcut="padding"),
        "schedule": partial(step_schedule, drops=DROPS),
        "published": untuned(sgd=(0.1, 2e-4), adam=(1e-3, 2e-4)),  # no source states Adam's rate
    }


def _attacked_loss(attack: Attack, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, labels = batch
    inputs = attack(getattr(model, "module", model), inputs, labels, random_start=True)
    return classification_loss(model, (inputs, labels))


def _predict(attack: Attack, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    inputs, labels = batch
    attacked = attack(getattr(model, "module", model), inputs, labels, random_start=False)
    return model(inputs).float().cpu(), model(attacked).float().cpu(), labels.cpu()


def _score(predictions: list[tuple[Tensor, ...]]) -> dict[str, float]:
    clean, attacked, labels = joined(predictions)
    return {
        "attacked accuracy": accuracy(attacked, labels),
        "clean accuracy": accuracy(clean, labels),
        "loss": F.cross_entropy(attacked, labels).item(),
    }
