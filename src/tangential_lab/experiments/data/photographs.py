"""Photographs that are decoded when a batch asks for them, and what ImageNet's nets expect."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.models import WeightsEnum
from torchvision.transforms import v2

from tangential_lab.experiments.data.sources import Arrays, DataError, DataFolder, prepared
from tangential_lab.experiments.data.splits import hold_out
from tangential_lab.training import DataSource

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: red, green, blue
HELD_OUT = 50  # one in HELD_OUT training photographs is for validation

Transform = Callable[[Any], Tensor]  # from a PIL image to a tensor


@dataclass(frozen=True)
class Photographs:
    """A split of photographs; batches are images and labels.

    Args:
        root: Folder that contains all files.
        files: Their paths inside it, as bytes: an array is not copied into every loader process.
        labels: One label, or one row of labels, for every file.
        transform: Turns a photograph into a tensor.
    """

    root: Path
    files: np.ndarray
    labels: np.ndarray
    transform: Transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        paths = [self.root / os.fsdecode(self.files[i]) for i in indices]
        images = torch.stack([self.transform(read_photograph(path)) for path in paths])
        return images, torch.tensor(self.labels[indices])

    def only(self, indices: np.ndarray) -> "Photographs":
        """The photographs with these indices."""
        return replace(self, files=self.files[indices], labels=self.labels[indices])


def read_photograph(path: Path) -> Image.Image:
    """The picture in a file, in colour; a DataError if it is missing or not an image."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as an image: {error}") from error


def class_folders(
    root: Path,
    classes: Mapping[str, int],
    data: DataSource,
    transform: Transform,
    source: DataFolder,
) -> Photographs:
    """The photographs root/CLASS/FILE; their list is made once and then cached.

    Args:
        root: Folder of the classes' folders.
        classes: The label of every folder; each must have a photograph.
        data: The data set that they are a part of.
        transform: Turns a photograph into a tensor.
        source: Names the data set in errors.
    """

    def read() -> Arrays:
        if not classes:
            raise source.error(f"{root} contains no folder of the wanted classes")
        with source.reading(root, "a folder with a folder of photographs for every class"):
            samples = make_dataset(root, dict(classes), IMG_EXTENSIONS)
        files = [os.fsencode(os.path.relpath(path, root)) for path, _ in samples]
        return {"files": np.array(files), "labels": np.array([label for _, label in samples])}

    listed = prepared(f"list-{root.parent.name}-{root.name}-{len(classes)}", data, read)
    return Photographs(root, listed["files"], listed["labels"], transform)


def training_splits(every: Photographs, *, held_out: bool) -> dict[str, Photographs]:
    """Splits for training and, if `held_out`, validation: the middle of one in `HELD_OUT`."""
    indices = hold_out(len(every), HELD_OUT, held_out=held_out)
    splits = {name: every.only(chosen) for name, chosen in indices.items()}
    if held_out:
        splits["validation"] = replace(splits["validation"], transform=central_view())
    return splits


def random_view(size: int = 224) -> Transform:
    """A random part of the photograph, mirrored half of the time (Szegedy et al. 2014)."""
    return v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *_normalized()])


def central_view(size: int = 224) -> Transform:
    """The middle of the photograph."""
    return v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *_normalized()])


def _normalized() -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]


def pretrained_weights(weights: WeightsEnum) -> Mapping[str, Any]:
    """The state_dict of these weights, cached or downloaded; DataError if that fails."""
    try:
        return weights.get_state_dict(check_hash=True)
    except OSError as error:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise DataError(f"{path} is missing: {error}. Get it from {weights.url}") from error
