"""Tiny folders in the layouts of MNIST, ImageNet and ImageNet-A."""

import numpy as np
import pytest
from datapacks import write_mnist
from hard_classes import HARD
from PIL import Image

from tangential_lab.experiments.bias import nine_classes


@pytest.fixture
def digits(home):
    """MNIST as torchvision keeps it, with 200 digits to train and 20 to test."""
    generator = np.random.default_rng(0)
    for name, size in (("train", 200), ("t10k", 20)):
        pixels = generator.integers(256, size=(size, 28, 28), dtype=np.uint8)
        write_mnist(home / "MNIST", name, pixels, np.arange(size) % 10)
    return home


@pytest.fixture
def animals(home):
    """The layout of ImageNet, of its textures' table and of ImageNet-A, one or two of a class."""
    lines = ["path,category,cluster1,cluster2,cluster3"]
    for i, name in enumerate(nine_classes.CLASSES):
        lines.append(f"{name}/val_{i}.JPEG,any,{i % 9},{i % 2},0")
        seen = [f"imagenet/train/{name}/{letter}.JPEG" for letter in "ab"]
        hard = [f"imagenet-a/{name}/hard.jpg"] if name in HARD else []
        for path in (*seen, f"imagenet/val/{name}/val_{i}.JPEG", *hard):
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 40), (6 * i, 99, 0)).save(home / path)
    for other in ("imagenet/train/n01440764", "imagenet-a/n01498041"):
        (home / other).mkdir()  # a class that is not one of the nine
    (home / "imagenet" / nine_classes.TEXTURES).write_text("\n".join(lines))
    return home
