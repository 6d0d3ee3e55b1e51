"""Folders of photographs: root/class/photograph, more than fit into memory."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader, make_dataset
from torchvision.transforms import v2

from tangential_lab.experiments.data.sources import Arrays, DataError, prepared
from tangential_lab.training import DataSource

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red, green and blue


@dataclass(frozen=True)
class Photographs:
    """A split that decodes its images as they are asked for.

    Args:
        root: Folder of the classes' folders.
        files: Paths in it, as bytes: an array is not copied into every process that loads.
        labels: For every file one, or a row of them.
        look: Makes a tensor of a photograph.
    """

    root: Path
    files: np.ndarray
    labels: np.ndarray
    look: Callable[[Any], Tensor]

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.files)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The batch of these photographs, and their labels."""
        images = torch.stack([self.look(self._photograph(i)) for i in indices])
        return images, torch.tensor(self.labels[indices])

    def only(self, indices: np.ndarray) -> "Photographs":
        """Some of the photographs."""
        return replace(self, files=self.files[indices], labels=self.labels[indices])

    def _photograph(self, index: int) -> Any:
        path = self.root / os.fsdecode(self.files[index])
        try:
            return default_loader(path)
        except OSError as error:
            raise DataError(f"{path} is no image that can be read: {error}") from error


def photographs(
    root: Path,
    classes: Mapping[str, int],
    data: DataSource,
    look: Callable[[Any], Tensor],
    whence: str,
) -> Photographs:
    """The photographs of these classes, whose names are looked up once and then kept.

    Args:
        root: Folder of the classes' folders.
        classes: The label of every folder.
        data: That they are part of.
        look: Makes a tensor of a photograph.
        whence: Where to get them, for the error.

    Raises:
        DataError: there is no class, or one has no folder or no photograph.
    """
    name = f"list-{root.parent.name}-{root.name}-{len(classes)}"
    listed = prepared(name, data, partial(_listed, root, dict(classes), whence))
    return Photographs(root, listed["files"], listed["labels"], look)


def joined(*parts: Photographs) -> Photographs:
    """Photographs of several folders as one split, that looks at them as the first does."""
    root = Path(os.path.commonpath([part.root for part in parts]))
    files = [np.char.add(os.fsencode(f"{p.root.relative_to(root)}/"), p.files) for p in parts]
    labels = [part.labels for part in parts]
    return replace(parts[0], root=root, files=np.concatenate(files), labels=np.concatenate(labels))


def classes(root: Path) -> Sequence[str]:
    """The names of the folders in `root`, in order."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())


def training_look(size: int = 224) -> Callable[[Any], Tensor]:
    """A part of the photograph by chance, often mirrored (Szegedy et al. 2014)."""
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *_numbers()])


def middle_look(size: int = 224) -> Callable[[Any], Tensor]:
    """The middle of the photograph."""
    return v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *_numbers()])


def _numbers() -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]


def _listed(root: Path, classes: dict[str, int], whence: str) -> Arrays:
    if not classes:
        raise DataError(f"{root} has no folder of a class that is looked for. {whence}")
    try:
        samples = make_dataset(root, classes, IMG_EXTENSIONS)
    except OSError as error:
        raise DataError(f"{root} is not complete: {error} {whence}") from error
    files = [os.fsencode(os.path.relpath(path, root)) for path, _ in samples]
    return {"files": np.array(files), "labels": np.array([label for _, label in samples])}
