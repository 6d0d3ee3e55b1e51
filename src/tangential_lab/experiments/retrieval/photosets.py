"""Sets of photographs for retrieval, in the layout of their archives."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2

from tangential_lab.experiments.data.photographs import DEVIATION, MEAN, Photographs
from tangential_lab.experiments.data.sources import DataFolder, described
from tangential_lab.training import DataSource

BOTH, QUERY, GALLERY = 0, 1, 2  # the role of an image in evaluation
HELD_OUT = 10  # the last 1/HELD_OUT of the training classes is for validation
CUB = DataFolder(
    "CUB_200_2011",
    ("images.txt", "image_class_labels.txt"),
    "Get it from https://www.vision.caltech.edu/datasets/cub_200_2011, unpacked.",
)
CARS = DataFolder(
    "cars196",
    ("cars_annos.mat",),
    "Get car_ims.tgz, unpacked, and cars_annos.mat, formerly at ai.stanford.edu/~jkrause/cars.",
)
SOP = DataFolder(
    "Stanford_Online_Products",
    ("Ebay_train.txt", "Ebay_test.txt"),
    "Get it from https://cvgl.stanford.edu/projects/lifted_struct, unpacked.",
)
INSHOP = DataFolder(
    "Inshop_Clothes",
    ("Eval/list_eval_partition.txt", "Img"),
    "Get In-shop Clothes Retrieval from https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.",
)
_NUMBERS = (v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION))
RANDOM_VIEW = v2.Compose(
    [v2.ToImage(), v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), *_NUMBERS]
)
CENTRAL_VIEW = v2.Compose([v2.ToImage(), v2.Resize(256), v2.CenterCrop(224), *_NUMBERS])


class PhotoSet(NamedTuple):
    """Photographs in splits of disjoint classes; training classes count from 0.

    Labels are [n, 2]: the class, and the role in evaluation.
    """

    data: DataSource
    splits: dict[str, Photographs]


def cub(data: Path | None) -> PhotoSet:
    """CUB-200-2011: classes 1 to 100 are for training, the others for the test.

    Raises:
        DataError: files are missing or broken.
    """
    images, classes = CUB.require(data)
    rows = _lines(CUB, images, 2)
    with CUB.reading(classes, "a table of a class for each number of images.txt"):
        class_of = dict(_lines(CUB, classes, 2))
        labels = [int(class_of[number]) for number, _ in rows]
    files = [f"images/{name}" for _, name in rows]
    every = _photographs(images.parent, files, labels)
    return _photo_set("CUB-200-2011", CUB, *_by_class(every, last=100))


def cars(data: Path | None) -> PhotoSet:
    """Cars-196: classes 1 to 98 are for training, the others for the test.

    Raises:
        DataError: files are missing or broken.
    """
    from scipy.io import loadmat

    (notes,) = CARS.require(data)
    with CARS.reading(notes, "a file of annotations"):
        rows = loadmat(notes, squeeze_me=True)["annotations"]
        files = [str(name) for name in rows["relative_im_path"]]
        labels = [int(label) for label in rows["class"]]
    every = _photographs(notes.parent, files, labels)
    return _photo_set("Cars-196", CARS, *_by_class(every, last=98))


def sop(data: Path | None) -> PhotoSet:
    """Stanford Online Products, with the archive's own halves of disjoint products.

    Raises:
        DataError: files are missing or broken.
    """
    train, test = (_products(table) for table in SOP.require(data))
    return _photo_set("Stanford Online Products", SOP, train, test)


def _products(table: Path) -> Photographs:
    rows = _lines(SOP, table, 4)[1:]  # after the names of the columns
    with SOP.reading(table, "a table of image_id, class_id, super_class_id, path"):
        labels = [int(label) for _, label, _, _ in rows]
    return _photographs(table.parent, [path for _, _, _, path in rows], labels)


def inshop(data: Path | None) -> PhotoSet:
    """In-shop Clothes Retrieval: each query is compared with the gallery.

    Raises:
        DataError: files are missing or broken.
    """
    table, images = INSHOP.require(data)
    rows = _lines(INSHOP, table, 3)[1:]  # after a count and the names of the columns
    known = {"train": BOTH, "query": QUERY, "gallery": GALLERY}
    with INSHOP.reading(table, "a table of image_name, item_id, evaluation_status"):
        items = [int(item.rsplit("_", 1)[1]) for _, item, _ in rows]
        roles = [known[status] for _, _, status in rows]
    files = [f"{images.name}/{name}" for name, _, _ in rows]
    every = _photographs(images.parent, files, items, roles)
    is_training = every.labels[:, 1] == BOTH
    train, test = (every.only(np.flatnonzero(chosen)) for chosen in (is_training, ~is_training))
    return _photo_set("In-shop Clothes Retrieval", INSHOP, train, test)


def _lines(source: DataFolder, table: Path, count: int) -> list[list[str]]:
    """Lines of `count` words; another first line, such as a number, is skipped."""
    with source.reading(table, "text in UTF-8"):
        rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines()]
    wrong = [number for number, row in enumerate(rows, 1) if row and len(row) != count]
    if any(number > 1 for number in wrong):
        raise source.error(
            f"{table}, line {wrong[-1]} must have {count} words, got {len(rows[wrong[-1] - 1])}"
        )
    return [row for row in rows if len(row) == count]


def _photographs(
    folder: Path, files: Sequence[str], classes: Sequence[int], roles: Sequence[int] | None = None
) -> Photographs:
    roles = roles or [BOTH] * len(files)
    labels = np.array([*zip(classes, roles, strict=True)], dtype=np.int64).reshape(-1, 2)
    return Photographs(
        folder, np.array([os.fsencode(file) for file in files]), labels, CENTRAL_VIEW
    )


def _by_class(every: Photographs, last: int) -> tuple[Photographs, Photographs]:
    """The photographs of classes up to `last`, and the others."""
    is_training = every.labels[:, 0] <= last
    return every.only(np.flatnonzero(is_training)), every.only(np.flatnonzero(~is_training))


def _photo_set(about: str, source: DataFolder, train: Photographs, test: Photographs) -> PhotoSet:
    """The splits; the last tenth of the training classes is for validation.

    Raises:
        DataError: there are fewer than two training classes, or an image is missing.
    """
    folder = train.root
    classes, numbers = np.unique(train.labels[:, 0], return_inverse=True)
    if len(classes) < 2 or not len(test):
        raise source.error(
            f"{folder} must have at least 2 training classes and a test photograph, got "
            f"{len(classes)} and {len(test)}"
        )
    count = len(classes) - max(1, len(classes) // HELD_OUT)
    labels = np.column_stack([numbers, train.labels[:, 1]])
    numbered = replace(train, labels=labels, transform=RANDOM_VIEW)
    splits = {
        "train": numbered.only(np.flatnonzero(numbers < count)),
        "validation": train.only(np.flatnonzero(numbers >= count)),
        "test": test,
    }
    for file in (file for split in splits.values() for file in split.files):
        if not (folder / os.fsdecode(file)).is_file():
            raise source.error(f"{folder / os.fsdecode(file)} is missing, but listed in {folder}")
    shares = f"{count} of {len(classes)} training classes; the others validation"
    return PhotoSet(described(f"{about} ({shares})", [folder]), splits)
