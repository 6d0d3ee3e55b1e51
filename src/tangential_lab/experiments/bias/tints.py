"""Biased-MNIST: white digits on a background that tells the class, mostly (Bahng et al. 2020)."""

from functools import partial

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from tangential_lab.experiments.data.augment import scaled
from tangential_lab.experiments.data.images import Images, tensors
from tangential_lab.training import TensorSplit

UNBIASED, BIASED = 0, 1  # test sets
COLOURS = np.array(  # of the backgrounds, class by class, as published: red, green, blue
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
UNIFORM = 1 / len(COLOURS)  # every colour is as likely as any other
FRAME = 4  # pixels on every side of MNIST's images, which have 4 % of the ink
SEED = 0  # one set of colours for all


def splits(
    mnist: Images,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    *,
    rho: float,
    small: bool,
) -> dict[str, TensorSplit]:
    """Splits of tinted digits, whose labels [n, 2] are the class, and the test set.

    Args:
        mnist: The digits.
        train: Indices of training digits, biased.
        validation: Indices of training digits to tint without bias.
        test: Indices of test digits; they come twice, without bias and with no exception to it.
        rho: Share of the digits in "train" that are on their class's own colour.
        small: Images of 10 x 10.
    """
    seen = partial(_tinted, mnist.train, mnist.train_labels, small)
    shown = partial(_tinted, mnist.test, mnist.test_labels, small)
    both = zip(shown(test, UNIFORM, UNBIASED), shown(test, 1.0, BIASED), strict=True)
    return {
        "train": _in_memory(*seen(train, rho, BIASED)),
        "validation": _in_memory(*seen(validation, UNIFORM, UNBIASED)),
        "test": _in_memory(*map(np.concatenate, both)),
    }


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The accuracy on either test set, of those that are there, and the unbiased one's loss."""
    right = (logits.argmax(1) == labels[:, 0]).float()
    unbiased, biased = (labels[:, 1] == test for test in (UNBIASED, BIASED))
    return {
        "unbiased accuracy": right[unbiased].mean().item(),
        **({"biased accuracy": right[biased].mean().item()} if biased.any() else {}),
        "loss": cross_entropy(logits[unbiased], labels[unbiased, 0]).item(),
    }


def colours(labels: np.ndarray, rho: float) -> np.ndarray:
    """A colour for every digit: of its class for a share `rho`, else the other nine in turn."""
    drawn, given = np.random.default_rng(SEED), labels.astype(np.int64)
    for label in range(len(COLOURS)):
        mine = drawn.permutation(np.flatnonzero(labels == label))
        strays = mine[round(rho * len(mine)) :]
        other = 1 + np.arange(len(strays)) % (len(COLOURS) - 1)
        given[strays] = (label + other) % len(COLOURS)
    return given


def tinted(digits: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Grey digits [n, 1, h, w] as [n, 3, h, w]: white wherever there is ink, else coloured."""
    backgrounds = COLOURS[given][:, :, None, None]
    return np.where(digits > 0, np.uint8(255), backgrounds)


def halved(images: np.ndarray) -> np.ndarray:
    """Images [n, channels, h, w] at half their size, four pixels averaged into one."""
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // 2, 2, width // 2, 2)
    return blocks.mean((3, 5), dtype=np.float32).round().astype(np.uint8)


def _tinted(
    digits: np.ndarray, labels: np.ndarray, small: bool, which: np.ndarray, rho: float, test: int
) -> tuple[np.ndarray, np.ndarray]:
    classes = labels[which].astype(np.int64)
    given = colours(classes, rho)
    made = tinted(digits[which], given)
    made = halved(_middle(made)) if small else made
    return made, np.stack([classes, np.full_like(classes, test)], 1)


def _middle(images: np.ndarray) -> np.ndarray:
    return images[:, :, FRAME:-FRAME, FRAME:-FRAME]


def _in_memory(made: np.ndarray, labels: np.ndarray) -> TensorSplit:
    return TensorSplit(*tensors(made, labels), augment=partial(scaled, mean=0.5, deviation=0.5))
