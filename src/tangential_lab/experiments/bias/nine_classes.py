"""Nine classes of animals in ImageNet, some with textures that mislead (Bahng et al. 2020)."""

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tangential_lab.experiments.data import photographs
from tangential_lab.experiments.data.losses import joined
from tangential_lab.experiments.data.photographs import Photographs, class_folders
from tangential_lab.experiments.data.sources import DataFolder, Download, described
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
TEXTURES = "9class_imagenet_val.csv"
IMAGENET = DataFolder(
    "imagenet",
    ("train", "val", TEXTURES),
    f"Get ImageNet from https://image-net.org, and {TEXTURES} (the textures of its val/) from "
    "clusters/ of https://github.com/clovaai/rebias.",
    title="ImageNet 2012, with the textures of ReBias",
    publisher="ImageNet (Russakovsky et al. 2015); Bahng et al. 2020",
    licence="research only, after an agreement",
    megabytes=145_000,
    used_by="bias preset=paper source=imagenet",
)
IMAGENET_A = DataFolder(
    "imagenet-a",
    (".",),
    "Get ImageNet-A from https://github.com/hendrycks/natural-adv-examples.",
    title="ImageNet-A: 7,500 photographs that mislead",
    publisher="D. Hendrycks and others",
    licence="MIT",
    megabytes=690,
    used_by="bias preset=paper source=imagenet",
    downloads=(
        Download(
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
            root="imagenet-a",
            sha256="3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
        ),
    ),
)
ORDINARY, ADVERSARIAL = 0, 1  # origins: val/, ImageNet-A
FEW = 10  # photographs that a pair of class and texture needs to count


def splits(
    data: Path | None, *, held_out: bool = True
) -> tuple[DataSource, dict[str, Photographs]]:
    """Splits with labels [n, 5]: class, origin, and the texture in three clusterings.

    The textures of training photographs are unknown: on "validation", one in fifty of them if they
    are held out, the unbiased accuracy is the mean of the classes' accuracies. "test" is ImageNet's
    val/ and those of its classes that are in ImageNet-A, which has 200 of ImageNet's 1,000. A
    missing or broken file raises a DataError.
    """
    train, val, table = IMAGENET.require(data)
    (hard,) = IMAGENET_A.require(data)
    source = described("nine classes of ImageNet, ImageNet-A", [train, val, table, hard])
    central = photographs.central_view()
    training = class_folders(train, CLASSES, source, photographs.random_view(), IMAGENET)
    ordinary = class_folders(val, CLASSES, source, central, IMAGENET)
    shared = {name: label for name, label in CLASSES.items() if (hard / name).is_dir()}
    adversarial = class_folders(hard, shared, source, central, IMAGENET_A)
    parts = photographs.training_splits(training, held_out=held_out)
    return source, {
        **{name: _labelled(part, ORDINARY) for name, part in parts.items()},
        "test": _concatenated(
            _labelled(ordinary, ORDINARY, _textures(table, ordinary.files)),
            _labelled(adversarial, ADVERSARIAL),
        ),
    }


def scores(predictions: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Accuracies: on ordinary photographs, their mean over textures, and on ImageNet-A."""
    logits, labels = joined(predictions)
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
    """The mean accuracy over all pairs of class and texture that have enough images."""
    _, cells = torch.unique(torch.stack([labels, textures], 1), dim=0, return_inverse=True)
    counts = cells.bincount()
    counted = counts >= min(FEW, int(counts.max()))
    return (cells.bincount(right)[counted] / counts[counted]).mean().item()


def _labelled(split: Photographs, origin: int, textures: Any = (0, 0, 0)) -> Photographs:
    others = np.broadcast_to(np.asarray(textures), (len(split), 3))
    labels = np.column_stack([split.labels, np.full(len(split), origin), others])
    return replace(split, labels=labels)


def _concatenated(*splits: Photographs) -> Photographs:
    """Photographs of several folders as one split, which has the first one's transform."""
    root = Path(os.path.commonpath([split.root for split in splits]))
    files = [np.char.add(os.fsencode(f"{s.root.relative_to(root)}/"), s.files) for s in splits]
    labels = np.concatenate([split.labels for split in splits])
    return replace(splits[0], root=root, files=np.concatenate(files), labels=labels)


def _textures(table: Path, files: np.ndarray) -> list[list[int]]:
    """The texture of every file in the three clusterings."""
    columns = ("cluster1", "cluster2", "cluster3")
    kind = f"a table with columns path, {', '.join(columns)} (numbers)"
    with IMAGENET.reading_text(table, kind) as file:
        rows = list(csv.DictReader(file))
        textures = {row["path"]: [int(row[name]) for name in columns] for row in rows}
    names = [file.decode() for file in files]
    if missing := [name for name in names if name not in textures]:
        raise IMAGENET.error(f"{table} has no line for {missing[0]}")
    return [textures[name] for name in names]
