"""Classification of photographs: ImageNet, and in small CIFAR-10."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torchvision import models

from tangential_lab.experiments.data import folders, images
from tangential_lab.experiments.data.augment import CutMixed, mirrored, scaled, shifted
from tangential_lab.experiments.data.classes import loss, predict, score
from tangential_lab.experiments.data.sources import described, needed
from tangential_lab.experiments.imagenet.resnet_cifar import resnet20
from tangential_lab.experiments.options import checked
from tangential_lab.training import (
    Metric,
    Split,
    Task,
    TensorSplit,
    cosine_schedule,
    loader_processes,
)

WHENCE = "Get ImageNet from https://image-net.org: train/ and val/ with a folder for every class."
HELD_OUT = 50  # one of so many training photographs is kept for tuning
ANALYSED = 0.3  # of the analysis run, from one drop of the learning rate to the next


@checked
def imagenet(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    net: Literal["auto", "resnet20", "resnet18", "resnet50", "mobilenet_v2"] = "auto",
    cutmix: bool = False,
    schedule: Literal["cosine", "steps"] = "cosine",
) -> Task:
    """Classify photographs.

    Args:
        preset: "mini" is ResNet-20 on 10,000 images of CIFAR-10; "paper" is ImageNet at 224 x 224,
            with one of 50 training photographs held out for tuning.
        data: Folder of data sets: "imagenet/train" and "imagenet/val" for "paper".
        net: "auto" is ResNet-20 in small, else ResNet-18.
        cutmix: Paste a part of every image into another one (Yun et al. 2019); "paper" then trains
            for 300 epochs, not 100.
        schedule: Of the learning rate: "steps" are the paper's analysis, a tenth every 30 of 100
            epochs (without decay there).

    Raises:
        ValueError: the net does not go with the preset.
        DataError: the data are not there, or broken.
    """
    nets = {"mini": ("resnet20",), "paper": ("resnet18", "resnet50", "mobilenet_v2")}[preset]
    if net not in ("auto", *nets):
        raise ValueError(f"net is {net!r}, allowed with preset {preset!r} are auto and {nets}")
    chosen = nets[0] if net == "auto" else net
    task = _mini(data) if preset == "mini" else _paper(data, chosen, cutmix)
    task = _with_cutmix(task) if cutmix else task
    return task._replace(schedule=cosine_schedule if schedule == "cosine" else _steps)


def _with_cutmix(task: Task) -> Task:
    mixed = CutMixed(task.splits["train"], round(1 / task.metric.chance_score))
    return task._replace(about=f"{task.about}, CutMix", splits={**task.splits, "train": mixed})


def _mini(data: Path | None) -> Task:
    source = images.cifar10(data)
    return _task(
        about="10,000 images of CIFAR-10 (32x32), ResNet-20",
        data=source.data,
        classes=10,
        epochs=8,
        batch_size=64,
        splits=_cifar(source),
        model=resnet20,
        evaluations=5,
        published={
            "sgd": {"lr": 0.1, "weight_decay": 5e-4},
            "adam": {"lr": 1e-2, "weight_decay": 1e-2},
        },
    )


def _cifar(source: images.Images) -> dict[str, Split]:
    train, validation = images.chosen(source.train_labels, 10_000, 2_000)
    test, _ = images.chosen(source.test_labels, 4_000, 1_000)
    look = partial(scaled, mean=0.47, deviation=0.25)
    splits = {
        "train": images.tensors(source.train, source.train_labels, train),
        "validation": images.tensors(source.train, source.train_labels, validation),
        "test": images.tensors(source.test, source.test_labels, test),
    }
    varied = lambda batch: look(mirrored(shifted(batch)))
    return {
        name: TensorSplit(*both, augment=varied if name == "train" else look)
        for name, both in splits.items()
    }


def _paper(data: Path | None, net: str, cutmix: bool) -> Task:
    train, val = needed(data, "imagenet", ["train", "val"], WHENCE)
    source = described("ImageNet", [train, val])
    names = folders.classes(train)
    labels = {name: label for label, name in enumerate(names)}
    listed = partial(folders.photographs, classes=labels, data=source, whence=WHENCE)
    seen, middle = listed(train, look=folders.training_look()), folders.middle_look()
    kept, validation = images.every(len(seen), HELD_OUT)
    return _task(
        about=f"ImageNet ({len(names)} classes, 224x224), {net}",
        data=source,
        classes=len(names),
        epochs=300 if cutmix else 100,
        batch_size=256,
        splits={
            "train": seen.only(kept),
            "validation": replace(seen.only(validation), look=middle),
            "test": listed(val, look=middle),
        },
        model=partial(getattr(models, net), num_classes=len(names)),
        loader_workers=loader_processes(),
        published={  # the sources disagree on Adam's decay: 0.01 or 0.1
            "sgd": {"lr": 0.1, "weight_decay": 1e-4},
            "adam": {"lr": 2e-3 if net == "mobilenet_v2" else 1e-3, "weight_decay": 1e-2},
        },
    )


def _task(*, classes: int, **settings: Any) -> Task:
    return Task(
        name="imagenet",
        metric=Metric("accuracy", "%", chance_score=1 / classes),
        loss=loss,
        predict=predict,
        score=score,
        **settings,
    )


def _steps(done: float) -> float:
    return 0.1 ** int(done / ANALYSED)
