"""Image retrieval: an embedding in which images of the same new class are close together."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tangential_lab.experiments.data.losses import joined, predict
from tangential_lab.experiments.data.splits import check_held_out
from tangential_lab.experiments.options import checked
from tangential_lab.experiments.published import untuned
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


class Recipe(NamedTuple):
    """The published training on a data set (Kim et al. 2020, Heo et al. 2021)."""

    photographs: Callable[..., PhotoSet]
    lr: float
    batch_size: int
    frozen: bool
    drop_every: int  # epochs from one drop of the learning rate to the next
    drop: float  # factor of the learning rate
    per_class: int  # images of a class in a batch of triplets
    warm_up: float  # epochs in which the trunk is not trained


PUBLISHED: dict[str, Recipe] = {
    "cub": Recipe(photosets.cub, 1e-4, 120, True, 5, 0.5, 4, 5),
    "cars": Recipe(photosets.cars, 1e-4, 120, True, 10, 0.5, 4, 5),
    "sop": Recipe(photosets.sop, 6e-4, 180, False, 20, 0.25, 2, 1),
    "inshop": Recipe(photosets.inshop, 6e-4, 180, False, 20, 0.25, 2, 1),
}
PUBLISHED_EPOCHS = 60
SIZES = {"mini": 128, "paper": 512}  # of an embedding


@checked
def retrieval(
    *,
    preset: Literal["mini", "paper"] = "mini",
    data: Path | None = None,
    dataset: Dataset = "auto",
    loss: LossName = "proxyanchor",
    batchnorm: BatchNorm = "published",
    pretrained: bool = True,
    held_out: bool = True,
) -> Task:
    """Embed images so that the nearest other image has the same class (recall at 1).

    Differences from the paper: by default the last tenth of the training classes is for validation.
    The published code also clips the values of every gradient at 10. The settings of SGD, and for
    triplets the margin, the batches and all learning rates, are our choice.

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
        held_out: For preset "paper": hold classes out for validation; without them, there can be no
            search.

    Raises:
        ValueError: an option of "paper" is set with "mini", or the data are missing or broken.
    """
    published = PUBLISHED["cub" if dataset == "auto" else dataset]
    if preset == "mini" and dataset != "auto":
        raise ValueError(f"dataset must be 'auto' with preset 'mini', got {dataset!r}")
    if preset == "mini" and batchnorm == "frozen":
        raise ValueError("batchnorm must be 'live' with preset 'mini', got 'frozen'")
    check_held_out(preset, held_out=held_out)
    if preset == "mini":
        source, splits = omniglot(data)
    else:
        source, splits = published.photographs(data, held_out=held_out)
    labels, test_labels = (torch.as_tensor(splits[k].labels)[:, 0] for k in ("train", "test"))
    criterion = partial(_criterion, loss, int(labels.max()) + 1, SIZES[preset])
    if preset == "mini":
        about, settings = "Omniglot's characters (35x35), a convolutional net", _mini(criterion)
    else:
        about = f"{source.about} (224x224), ResNet-50"
        frozen = {"published": published.frozen, "frozen": True, "live": False}[batchnorm]
        settings = _paper(published, criterion, len(labels), frozen, pretrained)
    # with "mini", the triplets of a batch are as many per class as for CUB
    in_classes = partial(class_balanced_batches, labels, published.per_class)
    return Task(
        name="retrieval",
        about=f"{about}, {loss}",
        data=source,
        metric=Metric("recall@1", "%", chance_score=1 / len(test_labels.unique())),
        splits=splits,
        loss=_loss,
        predict=predict,
        score=recall,
        batch_order=shuffled_batches if loss == "proxyanchor" else in_classes,
        **settings,
    )


def _criterion(loss: LossName, classes: int, size: int) -> Any:
    from pytorch_metric_learning import losses, miners

    if loss == "proxyanchor":
        return losses.ProxyAnchorLoss(classes, size, margin=MARGIN, alpha=ALPHA)
    miner = miners.TripletMarginMiner(TRIPLET_MARGIN, type_of_triplets="semihard")
    triplet = losses.TripletMarginLoss(TRIPLET_MARGIN)
    return lambda embeddings, labels: triplet(embeddings, labels, miner(embeddings, labels))


def _mini(criterion: Callable[[], Any]) -> dict[str, Any]:
    width = 48
    return {
        "epochs": 8,
        "batch_size": 96,
        "model": lambda: Embedder(_trunk(width), 4 * width, SIZES["mini"], criterion()),
        "published": untuned(sgd=(0.1, 1e-4), adam=(3e-3, 1e-2)),
        "groups": partial(groups_with_lr_scale, module="criterion", scale=10.0),
        "evaluation_batch_size": 512,
    }


def _trunk(width: int) -> nn.Module:
    def block(inputs: int) -> nn.Module:
        convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))

    net = nn.Sequential(*[block(inputs) for inputs in (1, width, width, width)], nn.Flatten())
    return net.to(memory_format=torch.channels_last)  # a fifth faster on a CPU


def _paper(
    published: Recipe,
    criterion: Callable[[], Any],
    images: int,
    frozen: bool,
    pretrained: bool,
) -> dict[str, Any]:
    warm_up = round(published.warm_up * (images // published.batch_size))

    def model() -> nn.Module:
        loss, trunk = criterion(), resnet50(pretrained=pretrained)
        return Embedder(
            trunk, 2048, SIZES["paper"], loss, bias=True, frozen=frozen, warm_up=warm_up
        )

    return {
        "epochs": PUBLISHED_EPOCHS,
        "frozen_epochs": published.warm_up,
        "batch_size": published.batch_size,
        "model": model,
        "published": untuned(sgd=(1e-2, 1e-4), adam=(published.lr, 1e-4)),
        "groups": partial(groups_with_lr_scale, module="criterion", scale=100.0),
        "schedule": partial(_stepped, published),
        "evaluation_batch_size": published.batch_size,
        "loader_workers": loader_processes(),
        "audit_loss": partial(_loss, warm=True),
    }


def _stepped(published: Recipe, done: float) -> float:
    """The share of the learning rate, which falls in steps as published."""
    return published.drop ** int(done * PUBLISHED_EPOCHS / published.drop_every)


def _loss(model: nn.Module, batch: Batch, **options: bool) -> Tensor:
    images, labels = batch
    return model(images, labels[:, 0], **options)


def recall(predictions: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Share of the queries whose nearest other image has their class.

    Args:
        predictions: For every batch, the embeddings [n, size], and classes and roles [n, 2].
    """
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    embeddings, labels = joined(predictions)
    classes, roles = labels.unbind(1)
    nearest = CustomKNN(CosineSimilarity(), batch_size=1024)
    calculator = AccuracyCalculator(
        include=("precision_at_1",), k=1, knn_func=nearest, device=torch.device("cpu")
    )
    queries, gallery = roles != GALLERY, roles != QUERY
    others = (None, None) if (roles == BOTH).all() else (embeddings[gallery], classes[gallery])
    accuracy = calculator.get_accuracy(embeddings[queries], classes[queries], *others)
    return {"recall@1": float(accuracy["precision_at_1"])}
