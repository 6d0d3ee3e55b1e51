"""Omniglot's characters, drawn by hand, in parts of disjoint classes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.datasets import Omniglot

from tangential_lab.experiments.data import layouts
from tangential_lab.experiments.data.layouts import DRAWINGS
from tangential_lab.experiments.data.packed import unpacked
from tangential_lab.experiments.data.sources import (
    Arrays,
    described,
    downloads,
    explained,
    found,
    prepared,
)
from tangential_lab.experiments.retrieval.photosets import BOTH
from tangential_lab.training import DataSource

WHENCE = "Get it by torchvision.datasets.Omniglot(DIR, background, download=True), both halves."
SIDE, POOLED = 105, 3  # pixels of a drawing, and of a square that is averaged
HALVES = {"background": "images_background", "evaluation": "images_evaluation"}
PIECES = 20  # in which a half is unpacked: whole, it takes 200 MB
TUNING_CLASSES = 184  # the last of the 964 of the background alphabets


@dataclass(frozen=True)
class Characters:
    """A split of drawings, bytes [n, 1, 35, 35]; batches are images, labels and roles."""

    drawings: Tensor
    labels: Tensor
    augment: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        """Number of drawings, not of fields."""
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of these drawings."""
        chosen = torch.tensor(indices)
        images = self.drawings[chosen].float() / 255
        images = self.augment(images) if self.augment else images
        return images, self.labels[chosen], torch.full((len(indices),), BOTH)


def omniglot(data: Path | None) -> tuple[DataSource, dict[str, Characters]]:
    """Characters of the background alphabets to train and validation, of the others for the test.

    Args:
        data: The folder of data sets: it may have "omniglot-py", as torchvision keeps it, or
            "omniglot/omniglot.npz", which packs it. Without either it is downloaded.

    Raises:
        DataError: it is not there, is broken or cannot be downloaded.
    """
    if paths := found(data, "omniglot", ["omniglot.npz"], WHENCE):
        about = described("Omniglot, class-disjoint", paths)
        make = partial(_packed, paths[0])
    else:
        paths = found(data, Omniglot.folder, HALVES.values(), WHENCE) or _downloaded()
        about = described("Omniglot, class-disjoint", paths)
        make = partial(_drawn, dict(zip(HALVES, paths, strict=True)))
    halves = prepared(f"omniglot-{SIDE // POOLED}-{DRAWINGS}", about, make)
    first = (len(halves["background"]) // DRAWINGS - TUNING_CLASSES) * DRAWINGS
    parts = {
        "train": halves["background"][:first],
        "validation": halves["background"][first:],
        "test": halves["evaluation"],
    }
    return about, {name: _characters(part, name) for name, part in parts.items()}


def _characters(drawings: np.ndarray, part: str) -> Characters:
    labels = torch.arange(len(drawings)) // DRAWINGS
    return Characters(torch.tensor(drawings), labels, _moved if part == "train" else None)


def _downloaded() -> list[Path]:
    home = downloads()
    with explained("Omniglot", home, WHENCE):
        for background in (True, False):
            Omniglot(home, background, download=True)
    return [home / Omniglot.folder / half for half in HALVES.values()]


def _drawn(folders: dict[str, Path]) -> Arrays:
    return {half: _averaged(layouts.drawings(folder)) for half, folder in folders.items()}


def _packed(path: Path) -> Arrays:
    halves = unpacked(path, tuple(HALVES), WHENCE)
    return {
        half: np.concatenate([_averaged(_bits(rows)) for rows in np.array_split(packed, PIECES)])
        for half, packed in halves.items()
    }


def _bits(packed: np.ndarray) -> np.ndarray:
    """Ink [n, 105, 105] of drawings with a bit a pixel."""
    return np.unpackbits(packed, axis=1)[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)


def _moved(images: Tensor) -> Tensor:
    """Every image turned by up to 15 degrees, stretched by up to 15 %, moved by up to 10 %."""
    count = len(images)
    angle, stretch = (torch.rand(count) - 0.5) * 0.52, 0.85 + 0.3 * torch.rand(count, 2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shift = 0.2 * (2 * torch.rand(count, 2, 1) - 1)
    theta = torch.cat([turn * stretch[:, None], shift], 2)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def _averaged(ink: np.ndarray) -> np.ndarray:
    """Ink, bytes [n, 1, 35, 35], of drawings [n, 105, 105]."""
    count = SIDE // POOLED
    shares = ink.reshape(-1, 1, count, POOLED, count, POOLED).mean((3, 5), dtype=np.float32)
    return np.round(255 * shares).astype(np.uint8)
