"""Image retrieval: an embedding in which images of one class, never seen in training, are near."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tangential_lab.experiments.options import checked
from tangential_lab.experiments.retrieval import photosets
from tangential_lab.experiments.retrieval.characters import omniglot
from tangential_lab.experiments.retrieval.embedder import Embedder, resnet50
from tangential_lab.experiments.retrieval.photosets import Opened, PhotoSet
from tangential_lab.experiments.retrieval.recall import recall
from tangential_lab.training import (
    Batch,
    Metric,
    Task,
    class_balanced_batches,
    groups_with_lr_scale,
    loader_processes,
    shuffled_batches,
)

Dataset = Literal["auto", "cub", "cars", "sop", "inshop"]
LossName = Literal["proxyanchor", "triplet"]
BatchNorm = Literal["published", "frozen", "live"]
MARGIN, ALPHA = 0.1, 32  # of ProxyAnchor
TRIPLET_MARGIN = 0.2  # of semi-hard triplets (Schroff et al. 2015)


class Published(NamedTuple):
    """The published training on a data set (Kim et al. 2020, Heo et al. 2021).

    Without the published code's clipping of every gradient's values at 10.
    """

    photographs: Callable[[Path | None], PhotoSet]
    lr: float
    batch_size: int
    frozen: bool
    every: int  # epochs from one drop of the learning rate to the next
    factor: float  # of a drop
    each: int  # images of a class in a batch of triplets
    warm_up: float  # epochs in which the trunk is held


PUBLISHED: dict[str, Published] = {
    "cub": Published(photosets.cub, 1e-4, 120, True, 5, 0.5, 4, 5),
    "cars": Published(photosets.cars, 1e-4, 120, True, 10, 0.5, 4, 5),
    "sop": Published(photosets.sop, 6e-4, 180, False, 20, 0.25, 2, 1),
    "inshop": Published(photosets.inshop, 6e-4, 180, False, 20, 0.25, 2, 1),
}
PUBLISHED_EPOCHS = 60


@checked
def retrieval(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    dataset: Dataset = "auto",
    loss: LossName = "proxyanchor",
    batchnorm: BatchNorm = "published",
    pretrained: bool = True,
) -> Task:
    """Embed images so that the nearest other one is of the same class (recall at 1).

    Args:
        preset: "mini": a small net on Omniglot's characters. "paper": ResNet-50 on photographs,
            its trunk held for the first 5 epochs (SOP, In-Shop: 1); a study must be longer.
        data: Folder of data sets: "omniglot-py" or "omniglot"; for "paper" "CUB_200_2011",
            "cars196", "Stanford_Online_Products", "Inshop_Clothes".
        dataset: Of preset "paper"; "auto" is CUB.
        loss: ProxyAnchor, or triplets with semi-hard negatives in batches of balanced classes.
        batchnorm: Of preset "paper": "published" is frozen for CUB and Cars, live for the others.
        pretrained: Of preset "paper": start from torchvision's weights for ImageNet.

    Raises:
        ValueError: an option of "paper" for "mini".
        DataError: the data are missing or broken.
    """
    if preset == "paper":
        published = PUBLISHED["cub" if dataset == "auto" else dataset]
        frozen = {"published": published.frozen, "frozen": True, "live": False}[batchnorm]
        return _paper(published, data, loss, frozen=frozen, pretrained=pretrained)
    if dataset != "auto":
        raise ValueError(f"dataset is {dataset!r}, allowed with preset 'mini' is 'auto'")
    if batchnorm == "frozen":
        raise ValueError("batchnorm is 'frozen', allowed with preset 'mini' is 'live'")
    return _mini(data, loss)


# ---- mini


def _mini(data: Path | None, loss: LossName) -> Task:
    about, splits = omniglot(data)
    labels, batch_size, width, size = splits["train"].labels, 96, 48, 128
    classes = int(labels.max()) + 1
    return Task(
        name="retrieval",
        about=f"Omniglot's characters (35x35), a convolutional net, {loss}",
        data=about,
        metric=_metric(splits["test"].labels),
        epochs=8,
        batch_size=batch_size,
        splits=splits,
        model=lambda: Embedder(_trunk(width), 4 * width, size, _criterion(loss, classes, size)),
        loss=_loss,
        predict=_predict,
        score=recall,
        published={
            "sgd": {"lr": 0.1, "weight_decay": 1e-4},
            "adam": {"lr": 3e-3, "weight_decay": 1e-2},
        },
        groups=partial(groups_with_lr_scale, module="criterion", scale=10.0),
        batch_order=_order(loss, labels, each=4),
        evaluation_batch_size=512,
    )


def _trunk(width: int) -> nn.Module:
    def block(inputs: int) -> nn.Module:
        convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))

    net = nn.Sequential(*[block(inputs) for inputs in (1, width, width, width)], nn.Flatten())
    return net.to(memory_format=torch.channels_last)  # a fifth faster on a CPU


# ---- paper


def _paper(
    published: Published, data: Path | None, loss: LossName, *, frozen: bool, pretrained: bool
) -> Task:
    photographs = published.photographs(data)
    parts, size = photographs.parts, 512
    labels, batch_size = parts["train"].labels, published.batch_size
    classes = int(labels.max()) + 1
    warm_up = round(published.warm_up * (len(labels) // batch_size))

    def model() -> nn.Module:
        criterion = _criterion(loss, classes, size)
        trunk = resnet50(pretrained=pretrained)
        return Embedder(trunk, 2048, size, criterion, frozen=frozen, warm_up=warm_up)

    return Task(
        name="retrieval",
        about=f"{photographs.data.about} (224x224), ResNet-50, {loss}",
        data=photographs.data,
        metric=_metric(parts["test"].labels),
        epochs=PUBLISHED_EPOCHS,
        frozen_epochs=published.warm_up,
        batch_size=batch_size,
        splits={name: Opened(part, _transform(name)) for name, part in parts.items()},
        model=model,
        loss=_loss,
        predict=_predict,
        score=recall,
        published={
            "sgd": {"lr": 1e-2, "weight_decay": 1e-4},
            "adam": {"lr": published.lr, "weight_decay": 1e-4},
        },
        groups=partial(groups_with_lr_scale, module="criterion", scale=100.0),
        schedule=partial(_stepped, published),
        batch_order=_order(loss, labels, published.each),
        evaluation_batch_size=batch_size,
        loader_workers=loader_processes(),
        audit_loss=partial(_loss, warm=True),
    )


@cache
def _transform(part: str) -> Any:
    from torchvision.transforms import v2

    varied = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()]
    plain = [v2.Resize(256, antialias=True), v2.CenterCrop(224)]
    scaled = [v2.ToDtype(torch.float32, scale=True)]
    scaled += [v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    return v2.Compose([v2.ToImage(), *(varied if part == "train" else plain), *scaled])


def _stepped(published: Published, done: float) -> float:
    """The share of the learning rate left; the published one falls in steps."""
    return published.factor ** int(done * PUBLISHED_EPOCHS / published.every)


# ---- of both


def _criterion(loss: LossName, classes: int, size: int) -> Any:
    from pytorch_metric_learning import losses, miners

    if loss == "proxyanchor":
        return losses.ProxyAnchorLoss(classes, size, margin=MARGIN, alpha=ALPHA)
    miner = miners.TripletMarginMiner(TRIPLET_MARGIN, type_of_triplets="semihard")
    triplet = losses.TripletMarginLoss(TRIPLET_MARGIN)
    return lambda embeddings, labels: triplet(embeddings, labels, miner(embeddings, labels))


def _loss(model: nn.Module, batch: Batch, **options: bool) -> Tensor:
    images, labels, _ = batch
    return model(images, labels, **options)


def _order(
    loss: LossName, labels: Tensor, each: int
) -> Callable[[int, int, torch.Generator], Iterator[Tensor]]:
    return (
        shuffled_batches if loss == "proxyanchor" else partial(class_balanced_batches, labels, each)
    )


def _metric(labels: Tensor) -> Metric:
    return Metric("recall@1", "%", chance_score=1 / len(labels.unique()))


def _predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    images, labels, roles = batch
    return model(images).float().cpu(), labels.cpu(), roles.cpu()
