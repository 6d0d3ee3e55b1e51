"""Tinted digits."""

import numpy as np
import pytest
import torch
from realdata import DATA, needs
from rehearsal import count, rehearse

from tangential_lab.experiments.bias import tints
from tangential_lab.experiments.bias.task import bias
from tangential_lab.experiments.data import images
from tangential_lab.experiments.data.sources import DataError


def table(labels, given):
    """How many digits of every class have every colour."""
    counts = np.zeros((10, 10))
    np.add.at(counts, (labels, given), 1)
    return counts


def test_every_class_has_its_colour_for_a_share_of_its_digits():
    labels = np.repeat(np.arange(10), 1000)
    given = tints.colours(labels, 0.991)
    assert np.array_equal(table(labels, given), 1 + 990 * np.eye(10))
    assert (table(labels, tints.colours(labels, tints.UNIFORM)) == 100).all()


def test_ink_is_white_and_backgrounds_are_coloured():
    digit = np.array([[[[0, 3], [255, 0]]]], np.uint8)
    made = tints.tinted(digit, np.array([6]))
    assert made.dtype == np.uint8
    assert made[0, :, 0, 0].tolist() == made[0, :, 1, 1].tolist() == [255, 128, 0]
    assert made[0, :, 0, 1].tolist() == made[0, :, 1, 0].tolist() == [255, 255, 255]
    assert images.averaged(made, 2)[0, :, 0, 0].tolist() == [255, 192, 128]


@needs("MNIST")
@pytest.mark.slow
def test_the_splits_of_mnist_are_tinted_as_they_say():
    source = images.mnist(DATA)
    assert len(source.train) == 60_000
    assert source.train_labels[:5].tolist() == [5, 0, 4, 1, 9]  # MNIST's first digits
    task = bias(data=DATA, rho=0.99)
    sizes = {name: len(split) for name, split in task.splits.items()}
    assert sizes == {"train": 10_000, "validation": 2_000, "test": 8_000}
    split = task.splits["train"]
    own = torch.tensor(tints.COLOURS)[split.labels[:, 0]].view(-1, 3, 1, 1)
    on_own = (split.inputs == own).all(1).flatten(1).any(1)  # at pixels without ink
    assert on_own.float().mean().item() == pytest.approx(0.99, abs=1e-3)


def test_scores_distinguish_the_test_sets(digits):
    logits = 9 * torch.eye(10)[[0, 1, 2, 3]]
    labels = torch.tensor([[0, 0], [1, 0], [9, 0], [9, 1]])
    scores = bias(data=digits).score([(logits[:2], labels[:2]), (logits[2:], labels[2:])])
    assert scores["unbiased accuracy"] == pytest.approx(2 / 3)
    assert scores["biased accuracy"] == 0
    tuned = bias(data=digits).score([(logits[:3], labels[:3])])
    assert set(tuned) == {"unbiased accuracy", "loss"}


@pytest.mark.parametrize("method", ["rebias", "plain"])
@pytest.mark.parametrize("preset", ["mini", "paper"])
@pytest.mark.slow
def test_digits_are_trained_on_a_folder_of_their_layout(digits, tmp_path, method, preset):
    task = bias(preset=preset, data=digits, method=method)._replace(batch_size=8)
    assert task.splits["train"].__getitems__([0])[0].shape[2] == (10 if preset == "mini" else 28)
    found = rehearse(task, tmp_path)["test"]
    assert set(found) == {"unbiased accuracy", "biased accuracy", "loss"}


def test_the_published_setting_is_kept(digits):
    task = bias(preset="paper", data=digits)
    assert (task.batch_size, task.epochs) == (256, 80)
    assert task.published["adam"] == {"lr": 1e-3, "weight_decay": 1e-4}
    rates = [task.schedule(epoch / 80) for epoch in (0, 19, 20, 39, 40, 59, 60, 79)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    with torch.device("meta"):
        assert count(task.model()) == 531_210 + 12_810


def test_all_digits_are_trained_on_if_none_is_held_out(digits):
    splits = bias(preset="paper", data=digits, held_out=False, rho=1.0).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 200, "test": 40}
    usual = bias(preset="paper", data=digits, rho=1.0).splits
    assert {name: len(split) for name, split in usual.items()} == {
        "train": 180,
        "validation": 20,
        "test": 40,
    }
    assert splits["train"].labels[:, 0].bincount().tolist() == [20] * 10


def test_digits_in_torchvisions_layout_are_read(digits):
    source = images.mnist(digits, complete=True)
    assert source.train.shape == (200, 1, 28, 28)
    generator = np.random.default_rng(0)
    generator.integers(256, size=(200, 28, 28), dtype=np.uint8)
    pixels = generator.integers(256, size=(20, 28, 28), dtype=np.uint8)
    assert np.array_equal(source.test[:, 0], pixels)
    assert source.test_labels.tolist() == [*range(10)] * 2
    (digits / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is missing"):
        images.mnist(digits, complete=True)
