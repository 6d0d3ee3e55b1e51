"""Classification of photographs: ImageNet, and in small CIFAR-10."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torchvision import models

from tangential_lab.experiments.data import images, photographs
from tangential_lab.experiments.data.augment import CutMixed, mirrored, scaled, shifted
from tangential_lab.experiments.data.losses import (
    classification_loss,
    classification_scores,
    predict_classes,
)
from tangential_lab.experiments.data.sources import DataFolder, described
from tangential_lab.experiments.data.splits import hold_out, stratified
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

IMAGENET = DataFolder(
    "imagenet",
    ("train", "val"),
    "Get ImageNet from https://image-net.org: train/ and val/ with a folder for every class.",
)
HELD_OUT = 50  # one in HELD_OUT training photographs is for validation
STEP = 0.3  # schedule "steps": share of the training from one drop of the learning rate to the next


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
            where one in 50 training photographs is for validation.
        data: Folder of all data sets: "cifar-10-batches-py"; for "paper" "imagenet".
        net: "auto" is ResNet-20 for "mini" and ResNet-18 for "paper".
        cutmix: Paste a part of every image into another one (Yun et al. 2019); "paper" then trains
            for 300 epochs instead of 100.
        schedule: Learning rate schedule: "steps" is the paper's analysis, a tenth every 30 of 100
            epochs (there without weight decay).

    Raises:
        ValueError: the preset does not have this net.
        DataError: the data are missing or broken.
    """
    nets = {"mini": ("resnet20",), "paper": ("resnet18", "resnet50", "mobilenet_v2")}[preset]
    if net not in ("auto", *nets):
        raise ValueError(f"net must be auto or one of {nets} with preset {preset!r}, got {net!r}")
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
    train, validation = stratified(source.train_labels, 10_000, 2_000)
    test, _ = stratified(source.test_labels, 4_000, 1_000)
    seen = partial(images.tensors, source.train, source.train_labels)
    plain = partial(scaled, mean=0.47, deviation=0.25)
    return {
        "train": TensorSplit(*seen(train), augment=lambda batch: plain(mirrored(shifted(batch)))),
        "validation": TensorSplit(*seen(validation), augment=plain),
        "test": TensorSplit(*images.tensors(source.test, source.test_labels, test), augment=plain),
    }


def _paper(data: Path | None, net: str, cutmix: bool) -> Task:
    train_folder, val_folder = IMAGENET.require(data)
    source = described("ImageNet", [train_folder, val_folder])
    names = sorted(folder.name for folder in train_folder.iterdir() if folder.is_dir())
    labels = {name: label for label, name in enumerate(names)}
    read = partial(photographs.class_folders, classes=labels, data=source, source=IMAGENET)
    seen, central = (
        read(train_folder, transform=photographs.random_view()),
        photographs.central_view(),
    )
    train, validation = hold_out(len(seen), HELD_OUT)
    return _task(
        about=f"ImageNet ({len(names)} classes, 224x224), {net}",
        data=source,
        classes=len(names),
        epochs=300 if cutmix else 100,
        batch_size=256,
        splits={
            "train": seen.only(train),
            "validation": replace(seen.only(validation), transform=central),
            "test": read(val_folder, transform=central),
        },
        model=partial(getattr(models, net), num_classes=len(names)),
        loader_workers=loader_processes(),
        published={  # the sources disagree on Adam's weight decay: 0.01 or 0.1
            "sgd": {"lr": 0.1, "weight_decay": 1e-4},
            "adam": {"lr": 2e-3 if net == "mobilenet_v2" else 1e-3, "weight_decay": 1e-2},
        },
    )


def _task(*, classes: int, **settings: Any) -> Task:
    return Task(
        name="imagenet",
        metric=Metric("accuracy", "%", chance_score=1 / classes),
        loss=classification_loss,
        predict=predict_classes,
        score=classification_scores,
        **settings,
    )


def _steps(done: float) -> float:
    return 0.1 ** int(done / STEP)
