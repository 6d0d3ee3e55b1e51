"""Photographs with boxes as they are published: BCCD's blood cells, and COCO.

Missing or broken files raise a DataError.
"""

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from tangential_lab.experiments.data.photographs import read_photograph
from tangential_lab.experiments.data.sources import (
    Arrays,
    DataFolder,
    described,
    github_archive,
    prepared,
)
from tangential_lab.experiments.detection.boxes import Boxed
from tangential_lab.training import DataSource

BCCD = DataFolder(
    "BCCD_Dataset",
    ("BCCD",),
    "Get it by `git clone https://github.com/Shenggan/BCCD_Dataset`.",
    title="BCCD: 364 photographs of blood cells",
    publisher="Shenggan, cosmicad and akshaylamba",
    licence="MIT",
    megabytes=9,
    used_by="detection",
    downloads=(
        github_archive("Shenggan/BCCD_Dataset", "d272fb14cdff6e473fafeeeba32aba5f560e9e43"),
    ),
    sha256="d667401163501a8b71221fbcd3999859fbe4bc90ab617f1e50883bd5be96b31a",
)
BCCD_SIZE = (240, 320)  # half the height and width of a photograph
CELLS = ("RBC", "WBC", "Platelets")
SIDES = ("xmin", "ymin", "xmax", "ymax")  # of a box
HALVES = ("train2017", "val2017")
COCO = DataFolder(
    "coco",
    (*(f"annotations/instances_{half}.json" for half in HALVES), *HALVES),
    "Get 2017 Train images, 2017 Val images and 2017 Train/Val annotations from "
    "https://cocodataset.org/#download and unpack them there.",
    title="COCO 2017: 123,287 photographs with boxes",
    publisher="COCO Consortium (Lin et al. 2014)",
    licence="boxes CC BY 4.0; photographs by their owners on Flickr",
    megabytes=20_000,
    used_by="detection preset=paper",
)


class BoxedPhotographs(NamedTuple):
    """A data set: what it is, its classes, and its splits before augmentation."""

    data: DataSource
    classes: tuple[str, ...]
    splits: dict[str, Boxed]


def bccd(data: Path | None) -> BoxedPhotographs:
    """364 photographs of blood cells at half their size, in their three official splits."""
    (folder,) = BCCD.require(data)
    source = described("BCCD: blood cells, 364 photographs, annotated in part", [folder])
    name = f"bccd-{BCCD_SIZE[1]}x{BCCD_SIZE[0]}"
    arrays = prepared(name, source, partial(_read_bccd, folder))
    image = partial(_copy, arrays["images"])
    splits = {
        part: Boxed(image, arrays, np.flatnonzero(arrays["split"] == number))
        for number, part in enumerate(("train", "validation", "test"))
    }
    return BoxedPhotographs(source, CELLS, splits)


def _copy(images: np.ndarray, number: int) -> Tensor:
    return torch.tensor(images[number])


def _read_bccd(folder: Path) -> Arrays:
    split: dict[str, int] = {}
    for number, part in enumerate(("train", "val", "test")):
        path = folder / "ImageSets" / "Main" / f"{part}.txt"
        with BCCD.reading(path, "a list of photographs"):
            split |= dict.fromkeys(path.read_text().split(), number)
    names = sorted(split)
    images = [_pixels(folder / "JPEGImages" / f"{name}.jpg") for name in names]
    rows = [
        (number, *cell)
        for number, name in enumerate(names)
        for cell in _read_cells(folder / "Annotations" / f"{name}.xml")
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 7)
    scale = np.float32(BCCD_SIZE[0] / images[0].shape[1])
    return {
        "images": torch.stack([resize(image, list(BCCD_SIZE)) for image in images]).numpy(),
        "split": np.array([split[name] for name in names]),
        **_box_arrays(table, table[:, 3:].astype(np.float32) * scale, len(names)),
    }


def _read_cells(path: Path) -> list[tuple[int, ...]]:
    """Label, 0 and sides of every box in Pascal VOC's layout, without boxes that have no area."""
    cells = []
    with BCCD.reading(path, "a file of annotations"):
        for item in ElementTree.parse(path).iter("object"):
            sides = [int(item.findtext(f"bndbox/{side}", "")) for side in SIDES]
            if sides[0] < sides[2] and sides[1] < sides[3]:
                cells.append((CELLS.index(item.findtext("name", "")), 0, *sides))
    return cells


def coco(data: Path | None) -> BoxedPhotographs:
    """COCO 2017, or a data set in its layout: "train" is train2017 and "test" is val2017."""
    paths = COCO.require(data)
    source = described("COCO 2017", paths)
    notes, folders = paths[:2], paths[2:]
    train, val = (
        prepared(f"coco-{half}", source, partial(_read_coco, note, folder))
        for half, note, folder in zip(HALVES, notes, folders, strict=True)
    )
    classes = tuple(train["classes"].tolist())
    if classes != tuple(val["classes"].tolist()):
        raise COCO.error(f"{notes[1]} must have the categories of {notes[0]}, but has others")
    splits = {
        name: Boxed(
            partial(_photograph, folder, arrays["files"]), arrays, np.arange(len(arrays["files"]))
        )
        for name, folder, arrays in zip(("train", "test"), folders, (train, val), strict=True)
    }
    return BoxedPhotographs(source, classes, splits)


def _read_coco(note: Path, folder: Path) -> Arrays:
    """The content of a file of annotations."""
    kind = "COCO's annotations, a JSON object with images, annotations and categories"
    with COCO.reading(note, kind):
        content = json.loads(note.read_bytes())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        classes = [category["name"] for category in categories]
        label = {category["id"]: i for i, category in enumerate(categories)}
        number = {image["id"]: i for i, image in enumerate(content["images"])}
        files = [image["file_name"] for image in content["images"]]
        boxes = [a for a in content["annotations"] if min(a["bbox"][2:]) > 0]  # a few are flat
        rows = [(number[a["image_id"]], label[a["category_id"]], a["iscrowd"]) for a in boxes]
        sides = np.array([a["bbox"] for a in boxes], dtype=np.float32).reshape(-1, 4)
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise COCO.error(
            f"{folder} lacks {len(missing)} of the {len(files)} images that {note.name} lists, "
            f"such as {missing[0]}"
        )
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    corners = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
    return {
        "files": np.array(files, dtype=str),
        "classes": np.array(classes, dtype=str),
        **_box_arrays(table, corners, len(files)),
    }


def _photograph(folder: Path, files: np.ndarray, number: int) -> Tensor:
    return _pixels(folder / str(files[number]))


def _pixels(path: Path) -> Tensor:
    return pil_to_tensor(read_photograph(path))


def _box_arrays(table: np.ndarray, boxes: np.ndarray, photographs: int) -> Arrays:
    """The arrays of `Boxed`, from a table that begins with photograph, label and crowd [m, 3]."""
    order = np.argsort(table[:, 0], kind="stable")
    counts = np.bincount(table[:, 0], minlength=photographs)
    return {
        "boxes": boxes[order],
        "labels": table[order, 1],
        "crowds": table[order, 2].astype(bool),
        "starts": np.concatenate([[0], counts.cumsum()]),
    }
