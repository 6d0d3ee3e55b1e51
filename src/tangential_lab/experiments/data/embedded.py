"""scikit-learn's handwritten digits, which need no download."""

from functools import cache
from hashlib import sha256

import torch

from tangential_lab.experiments.data.splits import three_splits
from tangential_lab.training import DataSource, TensorSplit


@cache
def digits(mean: float, deviation: float) -> tuple[DataSource, dict[str, TensorSplit]]:
    """scikit-learn's digits, of which a fifth is for validation and a fifth for the test.

    Inputs are grey values from 0 to 16 [n, 1, 8, 8], minus `mean`, divided by `deviation`.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    about = "embedded in scikit-learn (UCI, test set of Optical Recognition of Digits)"
    data = DataSource(about, sha256(pixels.tobytes() + labels.tobytes()).hexdigest()[:16])
    inputs = (torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) - mean) / deviation
    return data, {
        name: TensorSplit(inputs[indices], torch.from_numpy(labels[indices]))
        for name, indices in three_splits(labels, 360).items()
    }
