"""Detection: CenterNet and SSD on COCO, and narrow ones on photographs of blood cells."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchvision.transforms import v2

from tangential_lab.experiments.data.splits import check_held_out, hold_out
from tangential_lab.experiments.detection import crops
from tangential_lab.experiments.detection.annotations import bccd, coco
from tangential_lab.experiments.detection.boxes import Boxed, Prediction, average_precision
from tangential_lab.experiments.detection.centernet import CenterNet, resdcn18
from tangential_lab.experiments.detection.ssd import Detector, Layout, ssd300
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import ADAM_AND_ADAMW, step_schedule, untuned
from tangential_lab.training import (
    Metric,
    Split,
    Task,
    cosine_schedule,
    groups_with_lr_scale,
    loader_processes,
)

HELD_OUT = 50  # one in HELD_OUT training photographs is for validation
MINI_SIZE = (128, 160)  # a quarter of a photograph's width; sides are multiples of 32
MINI_BORDER = 64  # BCCD's photographs have half of COCO's usual size here
MINI_ZOOM = 1.5  # at the published 4, platelets would be smaller than a cell
MINI_SSD = Layout(
    vgg="A",  # with a VGG16 as narrow as this, some seeds do not learn white cells
    width=0.1875,
    dilation=2,  # the map is 8 x 10
    extras=((256, 512, 2, 1),),
    ratios=[[2], [2], [2]],
    scales=[0.08, 0.18, 0.34, 0.6],  # platelets, red and white cells are .06, .16 and .32 wide
    steps=None,
)


class PublishedDetector(NamedTuple):
    """The published training of a detector."""

    net: Callable[..., nn.Module]
    size: crops.Size  # of the input
    training: Callable[[crops.Size], crops.Change]
    batch_size: int
    epochs: int
    drops: tuple[int, ...]  # epochs at which the learning rate falls
    untuned: dict[str, dict[str, float]]


PUBLISHED = {
    "centernet": PublishedDetector(
        *(resdcn18, (512, 512), crops.centernet_training, 114, 140, (90, 120)),
        untuned(sgd=(2e-2, 1e-4), adam=(5e-4, 0.0)),
    ),
    "ssd": PublishedDetector(
        *(ssd300, (300, 300), crops.ssd_training, 32, 120, (80, 110)),
        untuned(sgd=(2e-3, 5e-4), adam=(1e-4, 0.0)),
    ),
}
ENDS = {  # the first layer, and those that give the outputs
    "centernet": ("backbone.conv1", "heat.2", "size.2", "offset.2"),
    "ssd": ("ssd.backbone.fine.0", "ssd.head"),
}
WHOLE = {"centernet": crops.Window, "ssd": v2.Resize}  # evaluation pads or stretches images


@checked
def detection(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    detector: Literal["centernet", "ssd"] = "centernet",
    pretrained: bool = False,
    held_out: bool = True,
) -> Task:
    """Find objects in photographs and classify them.

    Differences from the paper: by default one in 50 training photographs is for validation.
    CenterNet is evaluated at 512 x 512, not at each photograph's own size, and trained without the
    published colour shifts of 3 in 255. SSD's backbone and settings are our choice, because the
    published ones are unknown: SSD300 on VGG16 with BatchNorm, 120 epochs in batches of 32. The
    settings of SGD are our choice, too.

    Args:
        preset: "mini" is a narrow net on 364 photographs of blood cells (BCCD) at 128 x 160; the
            metric counts only white cells, because many red ones have no box. "paper" is COCO 2017.
        data: Folder of all data sets: "BCCD_Dataset"; for "paper" "coco".
        detector: "centernet" is CenterNet on ResNet-18 with deformable up-convolutions; "ssd" is
            SSD300 on VGG16.
        pretrained: Start from torchvision's ImageNet weights; only for "paper".
        held_out: For "paper": hold photographs out for validation; without them, there can be no
            search.

    Raises:
        ValueError: pretrained is True with "mini", "mini" is not held out, or the data are missing
            or broken.
    """
    check_held_out(preset, held_out=held_out)
    if preset == "mini" and pretrained:
        raise ValueError("pretrained must be False with preset 'mini', got True: no such weights")
    if preset == "mini":
        settings = _mini(data, detector)
    else:
        settings = _paper(data, detector, pretrained, held_out=held_out)
    return Task(
        name="detection",
        loss=lambda model, batch: model(*batch),
        predict=_predict,
        evaluation_batch_size=32,
        evaluations=5,
        baselines=ADAM_AND_ADAMW,
        ends=ENDS[detector],
        **settings,
    )


def _mini(data: Path | None, detector: str) -> dict[str, Any]:
    source = bccd(data)
    if detector == "centernet":
        net = partial(CenterNet, widths=(32, 64, 96), ups=(32, 32), head=32)
        training = crops.centernet_training(MINI_SIZE, MINI_BORDER)
    else:
        net = partial(Detector, size=MINI_SIZE, layout=MINI_SSD)
        training = crops.quick_ssd_training(MINI_SIZE, MINI_ZOOM)
    sgd = PUBLISHED[detector].untuned["sgd"]  # at lr 0.02 SSD learns nothing
    return {
        "about": f"BCCD: blood cells in 364 photographs (128x160), a narrow {detector}",
        "data": source.data,
        "metric": Metric("AP50 WBC", "%", chance_score=0.0, margin=0.01),
        "epochs": 30,
        "batch_size": 8,
        "splits": _splits(source.splits, training, WHOLE[detector](MINI_SIZE)),
        "model": partial(net, len(source.classes)),
        "score": partial(average_precision, classes=source.classes),
        "published": {"sgd": sgd, "adam": {"lr": 1e-3, "weight_decay": 1e-2}},
        # at the learning rate of the other weights CenterNet's shifts grow beyond the map
        "groups": partial(groups_with_lr_scale, module="where", scale=0.1),
        "schedule": partial(cosine_schedule, warm_up=0.1),  # without it CenterNet starts slowly
        "loader_workers": 1,
    }


def _paper(data: Path | None, detector: str, pretrained: bool, *, held_out: bool) -> dict[str, Any]:
    source, published = coco(data), PUBLISHED[detector]
    train = source.splits["train"]
    indices = hold_out(len(train), HELD_OUT, held_out=held_out)
    parts = {name: train.only(chosen) for name, chosen in indices.items()}
    parts["test"] = source.splits["test"]
    drops = tuple(epoch / published.epochs for epoch in published.drops)
    start, size = "ImageNet weights" if pretrained else "scratch", published.size
    return {
        "about": f"COCO 2017 ({len(source.classes)} classes), {detector} from {start}",
        "data": source.data,
        "metric": Metric("AP", "%", chance_score=0.0),
        "epochs": published.epochs,
        "batch_size": published.batch_size,
        "splits": _splits(parts, published.training(size), WHOLE[detector](size)),
        "model": partial(published.net, len(source.classes), pretrained=pretrained),
        "score": average_precision,
        "published": published.untuned,
        "schedule": partial(step_schedule, drops=drops),
        "loader_workers": loader_processes(),
    }


def _splits(
    parts: dict[str, Boxed], training: crops.Change, evaluation: crops.Change
) -> dict[str, Split]:
    splits = {name: replace(part, change=evaluation) for name, part in parts.items()}
    return {**splits, "train": replace(parts["train"], change=training, crowded=False)}


def _predict(model: nn.Module, batch: tuple[Tensor, list]) -> Prediction:
    pixels, truth = batch
    return pytree.tree_map(Tensor.cpu, (model(pixels), truth))
