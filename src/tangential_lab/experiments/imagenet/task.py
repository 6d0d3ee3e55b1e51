"""Classification of photographs: ImageNet, and in small CIFAR-10."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import v2

from tangential_lab.experiments.data import images, photographs
from tangential_lab.experiments.data.losses import CLASSIFICATION
from tangential_lab.experiments.data.nets import kaiming
from tangential_lab.experiments.data.sources import DataFolder, described
from tangential_lab.experiments.data.splits import check_held_out, stratified
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import step_schedule, untuned
from tangential_lab.training import Metric, Split, Task, cosine_schedule, loader_processes

IMAGENET = DataFolder(
    "imagenet",
    ("train", "val"),
    "Get ImageNet from https://image-net.org: train/ and val/ with a folder for every class.",
    title="ImageNet 2012",
    publisher="ImageNet (Russakovsky et al. 2015)",
    licence="research only, after an agreement",
    megabytes=145_000,
    used_by="imagenet preset=paper",
)
BLOCKS = 3  # of ResNet-20 in each of three stages: 1 + 2 * 3 * 3 + 1 = 20 layers
WIDTH = 16  # channels of its first stage; the others have twice and four times as many
NETS = {"mini": ("resnet20",), "paper": ("resnet18", "resnet50", "mobilenet_v2")}
DECOUPLED_DECAY = 1e-4  # lr * weight_decay of AdamW and AdamP, by the authors' answer to users
SCHEDULES = {"cosine": cosine_schedule, "steps": partial(step_schedule, drops=(0.3, 0.6, 0.9))}


@checked
def imagenet(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    net: Literal["auto", "resnet20", "resnet18", "resnet50", "mobilenet_v2"] = "auto",
    cutmix: bool = False,
    schedule: Literal["cosine", "steps"] = "cosine",
    held_out: bool = True,
) -> Task:
    """Classify photographs.

    Differences from the paper: by default one in 50 training photographs is for validation. Its
    sources disagree about the weight decay of AdamW and AdamP: we follow its authors' answer to
    users, lr * weight_decay = 1e-4. Those of SGD and Adam, 1e-4, are our choice. The paper's
    analysis is `tangential analyse imagenet --preset paper --set schedule=steps held_out=no` with
    `--weight-decay 0`; without the latter, every optimizer also runs with weight decay.

    Args:
        preset: "mini" is ResNet-20 on 10,000 images of CIFAR-10; "paper" is ImageNet at 224 x 224.
        data: Folder of all data sets: "cifar-10-batches-py"; for "paper" "imagenet".
        net: "auto" is ResNet-20 for "mini" and ResNet-18 for "paper".
        cutmix: Paste a part of every image into another one (Yun et al. 2019); "paper" then trains
            for 300 epochs instead of 100.
        schedule: Learning rate schedule: "steps" is that of the paper's analysis, a tenth every 30
            of 100 epochs.
        held_out: For "paper": hold photographs out for validation; without them, there can be no
            search.

    Raises:
        ValueError: the preset does not have this net, "mini" is not held out, or the data are
            missing or broken.
    """
    check_held_out(preset, held_out=held_out)
    nets = NETS[preset]
    if net not in ("auto", *nets):
        raise ValueError(f"net must be auto or one of {nets} with preset {preset!r}, got {net!r}")
    chosen = nets[0] if net == "auto" else net
    if preset == "mini":
        classes, settings = _mini(data)
    else:
        classes, settings = _paper(data, chosen, cutmix, held_out=held_out)
    if cutmix:
        settings["about"] += ", CutMix"
        settings["splits"]["train"] = CutMixed(settings["splits"]["train"], classes)
    return Task(
        name="imagenet",
        metric=Metric("accuracy", "%", chance_score=1 / classes),
        schedule=SCHEDULES[schedule],
        **settings,
        **CLASSIFICATION,
    )


def _mini(data: Path | None) -> tuple[int, dict[str, Any]]:
    source = images.cifar10(data)
    train, validation = stratified(source.train_labels, 10_000, 2_000)
    by_split = {"train": train, "validation": validation}
    test, _ = stratified(source.test_labels, 4_000, 1_000)
    return 10, {
        "about": "10,000 images of CIFAR-10 (32x32), ResNet-20",
        "data": source.data,
        "epochs": 8,
        "batch_size": 64,
        "splits": images.image_splits(source, by_split, test, mean=0.47, deviation=0.25),
        "model": resnet20,
        "evaluations": 5,
        "published": untuned(sgd=(0.1, 5e-4), adam=(1e-2, 1e-2)),
    }


def _paper(
    data: Path | None, net: str, cutmix: bool, *, held_out: bool
) -> tuple[int, dict[str, Any]]:
    train, val = IMAGENET.require(data)
    source = described("ImageNet", [train, val])
    names = sorted(folder.name for folder in train.iterdir() if folder.is_dir())
    labels = {name: label for label, name in enumerate(names)}
    read = partial(photographs.class_folders, classes=labels, data=source, source=IMAGENET)
    every = read(train, transform=photographs.random_view())
    splits = photographs.training_splits(every, held_out=held_out)
    splits["test"] = read(val, transform=photographs.central_view())
    lr = 2e-3 if net == "mobilenet_v2" else 1e-3
    return len(names), {
        "about": f"ImageNet ({len(names)} classes, 224x224), {net}",
        "data": source,
        "epochs": 300 if cutmix else 100,
        "batch_size": 256,
        "splits": splits,
        "model": partial(getattr(models, net), num_classes=len(names)),
        "loader_workers": loader_processes(),
        "published": untuned(
            sgd=(0.1, 1e-4),
            sgdp=(0.1, 1e-5),
            adam=(lr, 1e-4),
            adamw=(lr, DECOUPLED_DECAY / lr),
            adamp=(lr, DECOUPLED_DECAY / lr),
        ),
    }


@dataclass(frozen=True)
class CutMixed:
    """A split in which each image gets a part of another image, and the same share of its label.

    Labels become shares of the classes [n, classes] (Yun et al. 2019, arXiv:1905.04899).
    """

    split: Split
    classes: int

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return v2.CutMix(num_classes=self.classes)(*self.split.__getitems__(indices))


class Block(nn.Module):
    """Two convolutions and a shortcut without weights (option A: new channels are zero)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = _normed(inputs, outputs, stride), _normed(outputs, outputs, 1)
        self.inner = nn.Sequential(*first, nn.ReLU(), *second)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(self.inner(x) + F.pad(shortcut, (0, 0, 0, 0, 0, self.added)))


def resnet20() -> nn.Sequential:
    """ResNet-20 for ten classes (He et al. 2015, arXiv:1512.03385, section 4.2)."""
    layers, inputs = [*_normed(3, WIDTH, 1), nn.ReLU()], WIDTH
    for stage in range(3):
        outputs = WIDTH << stage
        for block in range(BLOCKS):
            layers.append(Block(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def _normed(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [kaiming(convolution), nn.BatchNorm2d(outputs)]
