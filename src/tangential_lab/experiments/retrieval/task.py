"""Image retrieval: an embedding in which images of the same new class are close together."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tangential_lab.experiments.options import checked
from tangential_lab.experiments.retrieval import photosets
from tangential_lab.experiments.retrieval.characters import omniglot
from tangential_lab.experiments.retrieval.embedder import Embedder, resnet50
from tangential_lab.experiments.retrieval.photosets import BOTH, GALLERY, QUERY, PhotoSet
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

    The published code also clips the values of every gradient at 10; we do not.
    """

    photographs: Callable[[Path | None], PhotoSet]
    lr: float
    batch_size: int
    frozen: bool
    drop_every: int  # epochs from one drop of the learning rate to the next
    drop: float  # factor of the learning rate
    per_class: int  # images of a class in a batch of triplets
    warm_up: float  # epochs in which the trunk is not trained


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
    """Embed images so that the nearest other image has the same class (recall at 1).

    Args:
        preset: "mini": a small net on Omniglot's characters. "paper": ResNet-50 on photographs,
            whose trunk is not trained in the first 5 epochs (SOP, In-Shop: 1); a study must be
            longer.
        data: Folder of all data sets: "omniglot-py"; for "paper" "CUB_200_2011", "cars196",
            "Stanford_Online_Products", "Inshop_Clothes".
        dataset: Data set of preset "paper"; "auto" is CUB.
        loss: ProxyAnchor, or triplets with semi-hard negatives in batches of balanced classes.
        batchnorm: For preset "paper": "published" is frozen for CUB and Cars, live for the others.
        pretrained: For preset "paper": start from torchvision's weights for ImageNet.

    Raises:
        ValueError: an option of "paper" is set with "mini".
        DataError: the data are missing or broken.
    """
    if preset == "paper":
        published = PUBLISHED["cub" if dataset == "auto" else dataset]
        frozen = {"published": published.frozen, "frozen": True, "live": False}[batchnorm]
        return _paper(published, data, loss, frozen=frozen, pretrained=pretrained)
    if dataset != "auto":
        raise ValueError(f"dataset must be 'auto' with preset 'mini', got {dataset!r}")
    if batchnorm == "frozen":
        raise ValueError("batchnorm must be 'live' with preset 'mini', got 'frozen'")
    return _mini(data, loss)


# ---- mini


def _mini(data: Path | None, loss: LossName) -> Task:
    source, splits = omniglot(data)
    labels, width, size = splits["train"].labels[:, 0], 48, 128
    classes = int(labels.max()) + 1
    return _task(
        about=f"Omniglot's characters (35x35), a convolutional net, {loss}",
        data=source,
        metric=_metric(splits["test"].labels[:, 0]),
        epochs=8,
        batch_size=96,
        splits=splits,
        model=lambda: Embedder(_trunk(width), 4 * width, size, _criterion(loss, classes, size)),
        published={
            "sgd": {"lr": 0.1, "weight_decay": 1e-4},
            "adam": {"lr": 3e-3, "weight_decay": 1e-2},
        },
        groups=partial(groups_with_lr_scale, module="criterion", scale=10.0),
        batch_order=_order(loss, labels, per_class=4),
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
    source, splits = published.photographs(data)
    labels, test_labels = (torch.tensor(splits[k].labels[:, 0]) for k in ("train", "test"))
    batch_size, size, classes = published.batch_size, 512, int(labels.max()) + 1
    warm_up = round(published.warm_up * (len(labels) // batch_size))

    def model() -> nn.Module:
        criterion = _criterion(loss, classes, size)
        trunk = resnet50(pretrained=pretrained)
        return Embedder(trunk, 2048, size, criterion, frozen=frozen, warm_up=warm_up)

    return _task(
        about=f"{source.about} (224x224), ResNet-50, {loss}",
        data=source,
        metric=_metric(test_labels),
        epochs=PUBLISHED_EPOCHS,
        frozen_epochs=published.warm_up,
        batch_size=batch_size,
        splits=splits,
        model=model,
        published={
            "sgd": {"lr": 1e-2, "weight_decay": 1e-4},
            "adam": {"lr": published.lr, "weight_decay": 1e-4},
        },
        groups=partial(groups_with_lr_scale, module="criterion", scale=100.0),
        schedule=partial(_stepped, published),
        batch_order=_order(loss, labels, published.per_class),
        evaluation_batch_size=batch_size,
        loader_workers=loader_processes(),
        audit_loss=partial(_loss, warm=True),
    )


def _stepped(published: Published, done: float) -> float:
    """The share of the learning rate, which falls in steps as published."""
    return published.drop ** int(done * PUBLISHED_EPOCHS / published.drop_every)


# ---- both presets


def _task(**settings: Any) -> Task:
    return Task(name="retrieval", loss=_loss, predict=_predict, score=recall, **settings)


def _criterion(loss: LossName, classes: int, size: int) -> Any:
    from pytorch_metric_learning import losses, miners

    if loss == "proxyanchor":
        return losses.ProxyAnchorLoss(classes, size, margin=MARGIN, alpha=ALPHA)
    miner = miners.TripletMarginMiner(TRIPLET_MARGIN, type_of_triplets="semihard")
    triplet = losses.TripletMarginLoss(TRIPLET_MARGIN)
    return lambda embeddings, labels: triplet(embeddings, labels, miner(embeddings, labels))


def _loss(model: nn.Module, batch: Batch, **options: bool) -> Tensor:
    images, labels = batch
    return model(images, labels[:, 0], **options)


def _order(
    loss: LossName, labels: Tensor, per_class: int
) -> Callable[[int, int, torch.Generator], Iterator[Tensor]]:
    return (
        shuffled_batches
        if loss == "proxyanchor"
        else partial(class_balanced_batches, labels, per_class)
    )


def _metric(labels: Tensor) -> Metric:
    return Metric("recall@1", "%", chance_score=1 / len(labels.unique()))


def _predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    images, labels = batch
    return model(images).float().cpu(), labels.cpu()


def recall(predictions: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Share of the queries whose nearest other image has their class.

    Args:
        predictions: For every batch, the embeddings [n, size], and classes and roles [n, 2].
    """
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    embeddings, labels = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    classes, roles = labels.unbind(1)
    nearest = CustomKNN(CosineSimilarity(), batch_size=1024)
    calculator = AccuracyCalculator(
        include=("precision_at_1",), k=1, knn_func=nearest, device=torch.device("cpu")
    )
    queries, gallery = roles != GALLERY, roles != QUERY
    others = (None, None) if (roles == BOTH).all() else (embeddings[gallery], classes[gallery])
    accuracy = calculator.get_accuracy(embeddings[queries], classes[queries], *others)
    return {"recall@1": float(accuracy["precision_at_1"])}
