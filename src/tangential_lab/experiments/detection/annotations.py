"""Photographs with boxes, as they are published: BCCD's blood cells, and the layout of COCO."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from tangential_lab.experiments.data import layouts
from tangential_lab.experiments.data.packed import unpacked
from tangential_lab.experiments.data.sources import (
    Arrays,
    DataError,
    described,
    found,
    needed,
    prepared,
)
from tangential_lab.experiments.detection.boxes import Boxed
from tangential_lab.training import DataSource

BCCD = "Get it from https://github.com/Shenggan/BCCD_Dataset by git clone."
BCCD_ARRAYS = ("jpeg", "offsets", "split", "boxes", "labels", "image_index", "classes")
BCCD_SIZE = (240, 320)  # half of a photograph's
COCO = (
    "Get 2017 Train images, 2017 Val images and 2017 Train/Val annotations from "
    "https://cocodataset.org/#download and unpack them there."
)


class Photographs(NamedTuple):
    """A data set: what it is, its classes and its splits, yet without a change."""

    data: DataSource
    classes: tuple[str, ...]
    splits: dict[str, Boxed]


# ---- BCCD


def bccd(data: Path | None) -> Photographs:
    """364 photographs of blood cells at half their size, in their official three splits.

    Raises:
        DataError: neither BCCD_Dataset/BCCD nor bccd/bccd.npz, which packs it as
            `layouts.blood_cells` reads it, is there, or it is broken.
    """
    if paths := found(data, "bccd", ["bccd.npz"], BCCD):
        read = partial(unpacked, paths[0], BCCD_ARRAYS, BCCD)
    else:
        paths = needed(data, "BCCD_Dataset", ["BCCD"], BCCD)
        read = partial(layouts.blood_cells, paths[0])
    source = described("BCCD: blood cells, 364 photographs, annotated in part", paths)
    make = partial(_bccd, paths[0], read)
    arrays = prepared(f"bccd-{BCCD_SIZE[1]}x{BCCD_SIZE[0]}", source, make)
    whole = _boxed(partial(_copy, arrays["images"]), arrays)
    parts = {
        name: whole.only(np.flatnonzero(arrays["split"] == i))
        for i, name in enumerate(("train", "validation", "test"))
    }
    return Photographs(source, tuple(arrays["classes"].tolist()), parts)


def _copy(images: np.ndarray, number: int) -> Tensor:
    return torch.tensor(images[number])


def _bccd(path: Path, read: Callable[[], Arrays]) -> Arrays:
    packed = read()
    files = np.split(packed["jpeg"], packed["offsets"][1:-1])
    images = []
    for name, file in zip(packed.get("files", range(len(files))), files, strict=True):
        try:
            images.append(_decoded(io.BytesIO(file.tobytes())))
        except OSError as error:
            raise DataError(f"{path} is broken: photograph {name}: {error}. {BCCD}") from error
    order = np.argsort(packed["image_index"], kind="stable")
    scale = BCCD_SIZE[0] / images[0].shape[1]
    return {
        "images": torch.stack([resize(image, list(BCCD_SIZE)) for image in images]).numpy(),
        "boxes": packed["boxes"][order].astype(np.float32) * np.float32(scale),
        "labels": packed["labels"][order].astype(np.int64),
        "crowds": np.zeros(len(order), dtype=bool),
        "starts": _starts(packed["image_index"], len(images)),
        "split": packed["split"],
        "classes": packed["classes"].astype(str),
    }


# ---- COCO


def coco(data: Path | None) -> Photographs:
    """COCO 2017, or what has its layout: "train" and "test" are its train2017 and val2017.

    Raises:
        DataError: it is not there, or broken.
    """
    halves = ("train2017", "val2017")
    notes = [f"annotations/instances_{half}.json" for half in halves]
    paths = needed(data, "coco", [*notes, *halves], COCO)
    source = described("COCO 2017", paths)
    listed = [
        prepared(f"coco-{half}", source, partial(_coco, note, folder))
        for half, note, folder in zip(halves, paths[:2], paths[2:], strict=True)
    ]
    classes = [tuple(arrays["classes"].tolist()) for arrays in listed]
    if classes[0] != classes[1]:
        raise DataError(f"{paths[1]} has other categories than {paths[0]}. {COCO}")
    train, val = (
        _boxed(partial(_photograph, folder, arrays["files"]), arrays)
        for folder, arrays in zip(paths[2:], listed, strict=True)
    )
    return Photographs(source, classes[0], {"train": train, "test": val})


def _coco(note: Path, folder: Path) -> Arrays:
    """What a file of annotations says, in arrays."""
    try:
        said = json.loads(note.read_bytes())
        categories = sorted(said["categories"], key=lambda category: category["id"])
        label = {category["id"]: i for i, category in enumerate(categories)}
        number = {image["id"]: i for i, image in enumerate(said["images"])}
        files = [image["file_name"] for image in said["images"]]
        notes = [a for a in said["annotations"] if min(a["bbox"][2:]) > 0]  # COCO has a few flat
        rows = [(number[a["image_id"]], label[a["category_id"]], a["iscrowd"]) for a in notes]
        sides = np.array([a["bbox"] for a in notes], dtype=np.float32).reshape(-1, 4)
        classes = [category["name"] for category in categories]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{note} is no file of COCO's annotations, a JSON object with images, annotations and "
            f"categories: {type(error).__name__} {error}. {COCO}"
        ) from error
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(files)} images that {note.name} names, "
            f"such as {missing[0]}. {COCO}"
        )
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    order = np.argsort(table[:, 0], kind="stable")
    corners = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
    return {
        "files": np.array(files, dtype=str),
        "classes": np.array(classes, dtype=str),
        "boxes": corners[order],
        "labels": table[order, 1],
        "crowds": table[order, 2].astype(bool),
        "starts": _starts(table[:, 0], len(files)),
    }


def _photograph(folder: Path, files: np.ndarray, number: int) -> Tensor:
    path = folder / str(files[number])
    try:
        return _decoded(path)
    except OSError as error:
        raise DataError(f"{path} is no image that can be read: {error}. {COCO}") from error


# ---- of both


def _decoded(file: Path | io.BytesIO) -> Tensor:
    with Image.open(file) as image:
        return pil_to_tensor(image.convert("RGB"))


def _starts(of: np.ndarray, photographs: int) -> np.ndarray:
    """Where each photograph's boxes start, given that of each box."""
    return np.concatenate([[0], np.bincount(of, minlength=photographs).cumsum()])


def _boxed(image: Callable[[int], Tensor], arrays: Arrays) -> Boxed:
    return Boxed(
        image,
        boxes=arrays["boxes"],
        labels=arrays["labels"],
        crowds=arrays["crowds"],
        starts=arrays["starts"],
        numbers=np.arange(len(arrays["starts"]) - 1),
    )
