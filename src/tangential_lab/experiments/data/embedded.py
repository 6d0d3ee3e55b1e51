"""scikit-learn's handwritten digits, which need no download."""

from functools import cache
from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor

from tangential_lab.experiments.data.splits import stratified
from tangential_lab.training import DataSource


class Digits(NamedTuple):
    """scikit-learn's handwritten digits."""

    data: DataSource
    pixels: Tensor  # [1797, 1, 8, 8], grey values from 0 to 16
    labels: Tensor  # [1797]
    splits: dict[str, Tensor]  # "train", "validation", "test": indices


@cache
def digits() -> Digits:
    """scikit-learn's digits, of which a fifth is for validation and a fifth for the test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    about = "embedded in scikit-learn (UCI, test set of Optical Recognition of Digits)"
    data = DataSource(about, sha256(pixels.tobytes() + labels.tobytes()).hexdigest()[:16])
    rest, test = stratified(labels, 1437, 360)
    train, validation = stratified(labels[rest], 1077, 360)
    splits = {"train": rest[train], "validation": rest[validation], "test": test}
    grey = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8)
    indices = {name: torch.from_numpy(chosen) for name, chosen in splits.items()}
    return Digits(data, grey, torch.from_numpy(labels), indices)
