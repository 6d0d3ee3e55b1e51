"""Splits that are the same for every trial: seeds vary only the weights and the batches."""

from functools import partial

import numpy as np

SEED = 0


def stratified(labels: np.ndarray, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two disjoint samples in which classes have the same shares; always the same."""
    from sklearn.model_selection import train_test_split

    split = partial(train_test_split, stratify=labels, random_state=SEED)
    one, other = split(np.arange(len(labels)), train_size=first, test_size=second)
    return np.asarray(one), np.asarray(other)


def hold_out(size: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices below `size` in two parts: all except every `step`-th, and every `step`-th."""
    is_held_out = np.arange(size) % step == 0
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
