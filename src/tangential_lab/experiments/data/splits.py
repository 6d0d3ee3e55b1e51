"""Splits that are the same for every trial: seeds vary only the weights and the batches."""

import numpy as np

SEED = 0


def stratified(labels: np.ndarray, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two disjoint samples in which classes have the same shares; always the same."""
    from sklearn.model_selection import train_test_split

    one, other = train_test_split(
        np.arange(len(labels)),
        train_size=first,
        test_size=second,
        stratify=labels,
        random_state=SEED,
    )
    return np.asarray(one), np.asarray(other)


def three_splits(labels: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Indices by name of the split: `size` each for validation and test, the rest for training."""
    rest, test = stratified(labels, len(labels) - size, size)
    train, validation = stratified(labels[rest], len(rest) - size, size)
    return {"train": rest[train], "validation": rest[validation], "test": test}


def hold_out(size: int, step: int, *, held_out: bool) -> dict[str, np.ndarray]:
    """Indices below `size` by name of the split: every `step`-th is for validation.

    Without `held_out` all are for training, and there is no "validation".
    """
    if not held_out:
        return {"train": np.arange(size)}
    is_validation = np.arange(size) % step == 0
    return {
        "train": np.flatnonzero(~is_validation),
        "validation": np.flatnonzero(is_validation),
    }


def check_held_out(preset: str, *, held_out: bool) -> None:
    """Raise ValueError if a part of mini's training data would not be held out."""
    if preset == "mini" and not held_out:
        raise ValueError("held_out must be True with preset 'mini', got False")
