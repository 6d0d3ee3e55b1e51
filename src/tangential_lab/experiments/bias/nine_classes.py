"""Nine classes of animals in ImageNet, some with textures that mislead (Bahng et al. 2020)."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tangential_lab.experiments.data.folders import (
    Photographs,
    joined,
    middle_look,
    photographs,
    training_look,
)
from tangential_lab.experiments.data.images import every
from tangential_lab.experiments.data.sources import DataError, described, needed
from tangential_lab.training import DataSource

FOLDERS = {
    "dog": "n02085620 n02099601 n02106550 n02106662 n02110958",
    "cat": "n02123045 n02123159 n02123394 n02123597 n02124075",
    "frog": "n01641577 n01644373 n01644900",
    "turtle": "n01664065 n01665541 n01667114 n01667778 n01669191",
    "bird": "n01819313 n01820546 n01833805 n01843383 n01847000",
    "monkey": "n02486410 n02487347 n02488291 n02488702 n02492035",
    "fish": "n02607072 n02640242 n02641379 n02643566 n02655020",
    "crab": "n01978287 n01978455 n01980166 n01981276",
    "insect": "n02174001 n02177972 n02190166 n02206856 n02219486",
}
CLASSES = {name: i for i, names in enumerate(FOLDERS.values()) for name in names.split()}
CLUSTERS = "9class_imagenet_val.csv"
IMAGENET = (
    f"Get ImageNet from https://image-net.org, and {CLUSTERS} (the textures of its val/) from "
    "clusters/ of https://github.com/clovaai/rebias."
)
IMAGENET_A = "Get ImageNet-A from https://github.com/hendrycks/natural-adv-examples."
ORDINARY, ADVERSARIAL = 0, 1  # origins: val/, ImageNet-A
HELD_OUT = 50  # one of so many training photographs is kept for tuning
FEW = 10  # photographs of a class with a texture are needed to count


def splits(data: Path | None) -> tuple[DataSource, dict[str, Photographs]]:
    """Splits whose labels [n, 5] are class, origin, and the texture in three clusterings.

    The training photographs have no known textures, so that on "validation", one of fifty of
    them, the unbiased accuracy is the mean of the classes'. "test" is ImageNet's val/ and what
    ImageNet-A, which has 200 of ImageNet's 1,000 classes, has of the same ones.

    Raises:
        DataError: something is not there, or broken.
    """
    train, val, clusters = needed(data, "imagenet", ["train", "val", CLUSTERS], IMAGENET)
    (hard,) = needed(data, "imagenet-a", ["."], IMAGENET_A)
    source = described("nine classes of ImageNet, ImageNet-A", [train, val, clusters, hard])
    seen = photographs(train, CLASSES, source, training_look(), IMAGENET)
    kept, validation = every(len(seen), HELD_OUT)
    textures = _textures(clusters)
    middle = photographs(val, CLASSES, source, middle_look(), IMAGENET)
    some = {name: label for name, label in CLASSES.items() if (hard / name).is_dir()}
    adversarial = photographs(hard, some, source, middle_look(), IMAGENET_A)
    return source, {
        "train": _labelled(seen.only(kept), ORDINARY),
        "validation": _labelled(replace(seen.only(validation), look=middle_look()), ORDINARY),
        "test": joined(
            _labelled(
                middle, ORDINARY, [_texture(textures, file, clusters) for file in middle.files]
            ),
            _labelled(adversarial, ADVERSARIAL),
        ),
    }


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracies: of ordinary photographs, its mean over textures, and of ImageNet-A."""
    right = (logits.argmax(1) == labels[:, 0]).float()
    hard = labels[:, 1] == ADVERSARIAL
    known, hits = labels[~hard], right[~hard]
    means = [_mean_of_cells(hits, known[:, 0], known[:, i]) for i in (2, 3, 4)]
    return {
        "unbiased accuracy": sum(means) / len(means),
        "biased accuracy": hits.mean().item(),
        "loss": cross_entropy(logits[~hard], known[:, 0]).item(),
        **({"ImageNet-A accuracy": right[hard].mean().item()} if hard.any() else {}),
    }


def _mean_of_cells(right: Tensor, labels: Tensor, textures: Tensor) -> float:
    """The mean accuracy over every class with every texture, but for cells with few images."""
    _, cells = torch.unique(torch.stack([labels, textures], 1), dim=0, return_inverse=True)
    counts = cells.bincount()
    counted = counts >= min(FEW, int(counts.max()))
    return (cells.bincount(right)[counted] / counts[counted]).mean().item()


def _labelled(split: Photographs, part: int, textures: Any = (0, 0, 0)) -> Photographs:
    count = len(split)
    others = np.broadcast_to(np.asarray(textures), (count, 3))
    labels = np.column_stack([split.labels, np.full(count, part), others])
    return replace(split, labels=labels)


def _textures(path: Path) -> dict[str, list[int]]:
    names = ("cluster1", "cluster2", "cluster3")
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {row["path"]: [int(row[name]) for name in names] for row in rows}
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no table with columns path, {', '.join(names)} (numbers): "
            f"{type(error).__name__} {error}. {IMAGENET}"
        ) from error


def _texture(textures: dict[str, list[int]], file: bytes, path: Path) -> list[int]:
    try:
        return textures[file.decode()]
    except KeyError:
        raise DataError(f"{path} has no line for {file.decode()}. {IMAGENET}") from None
