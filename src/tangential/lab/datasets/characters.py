"""Omniglot's characters, drawn by hand, in parts of disjoint classes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tangential.lab.datasets.data import Arrays, described, needed, prepared
from tangential.lab.datasets.packed import unpacked
from tangential.lab.datasets.photosets import BOTH
from tangential.lab.task import Data

WHENCE = "Get it from https://github.com/brendenlake/omniglot, packed in omniglot.npz."
SIDE, POOLED = 105, 3  # pixels of a drawing, and of a square that is averaged
DRAWINGS = 20  # of a character
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


def omniglot(data: Path | None) -> tuple[Data, dict[str, Characters]]:
    """Characters of the background alphabets to train and tune, of the others for the report.

    Raises:
        DataError: omniglot/omniglot.npz is missing or broken.
    """
    paths = needed(data, "omniglot", ["omniglot.npz"], WHENCE)
    about = described("Omniglot, class-disjoint", paths)
    halves = prepared("omniglot-35", about, partial(_drawn, paths[0]))
    first = (len(halves["background"]) // DRAWINGS - TUNING_CLASSES) * DRAWINGS
    parts = {
        "train": halves["background"][:first],
        "tune": halves["background"][first:],
        "report": halves["evaluation"],
    }
    return about, {name: _characters(part, name) for name, part in parts.items()}


def _characters(drawings: np.ndarray, part: str) -> Characters:
    labels = torch.arange(len(drawings)) // DRAWINGS
    return Characters(torch.tensor(drawings), labels, _moved if part == "train" else None)


def _drawn(path: Path) -> Arrays:
    halves = unpacked(path, ("background", "evaluation"), WHENCE)
    return {half: _averaged(bits) for half, bits in halves.items()}


def _moved(images: Tensor) -> Tensor:
    """Every image turned by up to 15 degrees, stretched by up to 15 %, moved by up to 10 %."""
    count = len(images)
    angle, stretch = (torch.rand(count) - 0.5) * 0.52, 0.85 + 0.3 * torch.rand(count, 2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shift = 0.2 * (2 * torch.rand(count, 2, 1) - 1)
    theta = torch.cat([turn * stretch[:, None], shift], 2)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def _averaged(packed: np.ndarray) -> np.ndarray:
    """Ink, bytes [n, 1, 35, 35], of drawings with a bit a pixel."""
    count = SIDE // POOLED
    result = np.empty((len(packed), 1, count, count), np.uint8)
    for first in range(0, len(packed), 1000):  # unpacked, a whole set takes 200 MB
        bits = np.unpackbits(packed[first : first + 1000], axis=1)[:, : SIDE * SIDE]
        ink = bits.reshape(-1, count, POOLED, count, POOLED).mean((2, 4))
        result[first : first + 1000, 0] = np.round(255 * ink)
    return result
