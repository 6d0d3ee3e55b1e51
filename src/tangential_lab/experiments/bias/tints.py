"""Biased-MNIST: white digits on a colour that usually shows their class (Bahng et al. 2020)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from tangential_lab.experiments.data.images import Images, averaged, scaled, tensors
from tangential_lab.experiments.data.losses import joined
from tangential_lab.training import TensorSplit

UNBIASED, BIASED = 0, 1  # the two test sets
COLOURS = np.array(  # of the background of each class, as published: red, green, blue
    [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (225, 225, 0),
        (225, 0, 225),
        (0, 255, 255),
        (255, 128, 0),
        (255, 0, 128),
        (128, 0, 255),
        (128, 128, 128),
    ],
    dtype=np.uint8,
)
UNIFORM = 1 / len(COLOURS)  # the rho at which all colours are equally likely
FRAME = 4  # pixels on every side of MNIST's images, which have 4 % of the ink
SEED = 0  # the colours are the same for every trial


def splits(
    mnist: Images,
    by_split: Mapping[str, np.ndarray],
    tests: int,
    *,
    rho: float,
    small: bool,
) -> dict[str, TensorSplit]:
    """Splits of tinted digits with labels [n, 2]: the class, and the test set.

    Args:
        mnist: The digits.
        by_split: Indices of training digits by name of the split: "train", to tint with bias, and
            perhaps "validation", to tint without.
        tests: Number of test digits; each occurs twice, without bias and with its own colour.
        rho: Share of the digits in "train" that have the colour of their class.
        small: Whether images are 10 x 10 instead of 28 x 28.
    """
    trained = partial(_tinted, mnist.train, mnist.train_labels, small)
    shown = partial(_tinted, mnist.test, mnist.test_labels, small, slice(tests))
    both = zip(shown(UNIFORM, UNBIASED), shown(1.0, BIASED), strict=True)
    bias = {"train": (rho, BIASED), "validation": (UNIFORM, UNBIASED)}
    parts: dict[str, Any] = {n: trained(indices, *bias[n]) for n, indices in by_split.items()}
    parts["test"] = map(np.concatenate, both)
    augment = partial(scaled, mean=0.5, deviation=0.5)
    return {name: TensorSplit(*tensors(*part), augment=augment) for name, part in parts.items()}


def scores(predictions: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The accuracy on each test set that occurs, and the loss on the unbiased one."""
    logits, labels = joined(predictions)
    right = (logits.argmax(1) == labels[:, 0]).float()
    unbiased, biased = (labels[:, 1] == test for test in (UNBIASED, BIASED))
    return {
        "unbiased accuracy": right[unbiased].mean().item(),
        **({"biased accuracy": right[biased].mean().item()} if biased.any() else {}),
        "loss": cross_entropy(logits[unbiased], labels[unbiased, 0]).item(),
    }


def colours(labels: np.ndarray, rho: float) -> np.ndarray:
    """A colour for every digit: its class's for a share `rho`, otherwise the other nine in turn."""
    generator, colour = np.random.default_rng(SEED), labels.astype(np.int64)
    for label in range(len(COLOURS)):
        members = generator.permutation(np.flatnonzero(labels == label))
        exceptions = members[round(rho * len(members)) :]
        other = 1 + np.arange(len(exceptions)) % (len(COLOURS) - 1)
        colour[exceptions] = (label + other) % len(COLOURS)
    return colour


def tinted(digits: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Grey digits [n, 1, h, w] as [n, 3, h, w]: ink is white, the background coloured."""
    backgrounds = COLOURS[colour][:, :, None, None]
    return np.where(digits > 0, np.uint8(255), backgrounds)


def _tinted(
    digits: np.ndarray, labels: np.ndarray, small: bool, which: Any, rho: float, test: int
) -> tuple[np.ndarray, np.ndarray]:
    classes = labels[which].astype(np.int64)
    images = tinted(digits[which], colours(classes, rho))
    images = averaged(images[:, :, FRAME:-FRAME, FRAME:-FRAME], 2) if small else images
    return images, np.stack([classes, np.full_like(classes, test)], 1)
