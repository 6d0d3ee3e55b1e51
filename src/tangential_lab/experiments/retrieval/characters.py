"""Omniglot's handwritten characters, in splits of disjoint classes."""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import Omniglot

from tangential_lab.experiments.data import sources
from tangential_lab.experiments.data.images import averaged
from tangential_lab.experiments.retrieval.photosets import BOTH
from tangential_lab.training import DataSource, TensorSplit

OMNIGLOT = sources.DataFolder(
    Omniglot.folder,
    ("images_background", "images_evaluation"),
    "Get it by torchvision.datasets.Omniglot(DIR, background, download=True), both halves.",
    title="Omniglot: 1,623 characters, 20 drawings of each",
    publisher="B. Lake and others",
    licence="MIT",
    megabytes=16,
    used_by="retrieval",
    downloads=tuple(
        sources.Download(f"{Omniglot.download_url_prefix}/{half}.zip")
        for half in ("images_background", "images_evaluation")
    ),
)
DRAWINGS = 20  # of every character
SIDE, POOLED = 105, 3  # pixels of a drawing, and of a square that is averaged into one pixel
VALIDATION_CLASSES = 184  # the last of the 964 characters of the background alphabets


def omniglot(data: Path | None) -> tuple[DataSource, dict[str, TensorSplit]]:
    """Drawings, bytes [n, 1, 35, 35], with labels [n, 2]: the class, and the role `BOTH`.

    Characters of the background alphabets are for training and validation, the others for the
    test. Without "omniglot-py" in `data`, Omniglot is downloaded.
    """
    paths = OMNIGLOT.find(data) or _downloaded()
    source = sources.described("Omniglot, class-disjoint", paths)
    name = f"omniglot-{SIDE // POOLED}-{DRAWINGS}"
    halves = sources.prepared(name, source, partial(_read, paths))
    background, evaluation = halves["background"], halves["evaluation"]
    first = (len(background) // DRAWINGS - VALIDATION_CLASSES) * DRAWINGS
    return source, {
        "train": _split(background[:first], _moved_numbers),
        "validation": _split(background[first:], _numbers),
        "test": _split(evaluation, _numbers),
    }


def _downloaded() -> list[Path]:
    home = sources.downloads()
    with OMNIGLOT.reading(home, "Omniglot"):
        for background in (True, False):
            Omniglot(home, background, download=True)
    return [home / OMNIGLOT.name / half for half in OMNIGLOT.files]


def _read(paths: list[Path]) -> sources.Arrays:
    halves = zip(("background", "evaluation"), paths, strict=True)
    return {name: averaged(read_drawings(path), POOLED) for name, path in halves}


def read_drawings(folder: Path) -> np.ndarray:
    """Ink, 255 or 0, of the drawings ALPHABET/CHARACTER/DRAWING.png, where they are black.

    Returns:
        Bytes [n, 1, 105, 105], `DRAWINGS` of every character.
    """
    paths = sorted(folder.glob("*/*/*.png"))
    if not paths:
        raise OMNIGLOT.error(f"{folder} has no drawing ALPHABET/CHARACTER/DRAWING.png")
    for character, drawings in groupby(paths, lambda path: path.parent):
        if (count := len(list(drawings))) != DRAWINGS:
            raise OMNIGLOT.error(f"{character} must have {DRAWINGS} drawings, got {count}")
    ink = np.empty((len(paths), 1, SIDE, SIDE), np.uint8)
    for drawing, path in zip(ink, paths, strict=True):
        with OMNIGLOT.reading(path, "an image"), Image.open(path) as picture:
            drawing[0] = np.where(np.asarray(picture.convert("L")) < 128, 255, 0)
    return ink


def _split(drawings: np.ndarray, augment: Callable[[Tensor], Tensor]) -> TensorSplit:
    labels = torch.arange(len(drawings)) // DRAWINGS
    labels = torch.stack([labels, torch.full_like(labels, BOTH)], 1)
    return TensorSplit(torch.tensor(drawings), labels, augment)


def _numbers(images: Tensor) -> Tensor:
    return images.float() / 255


def _moved_numbers(images: Tensor) -> Tensor:
    return moved(_numbers(images))


def moved(images: Tensor) -> Tensor:
    """Every image rotated by up to 15 degrees, stretched by up to 15 %, moved by up to 10 %."""
    count = len(images)
    angle, stretch = (torch.rand(count) - 0.5) * 0.52, 0.85 + 0.3 * torch.rand(count, 2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shift = 0.2 * (2 * torch.rand(count, 2, 1) - 1)
    theta = torch.cat([turn * stretch[:, None], shift], 2)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)
