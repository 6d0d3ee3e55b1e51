"""Omniglot: drawings in torchvision's layout, and the real ones."""

import numpy as np
import pytest
import torch
from embedders import LOSSES
from PIL import Image
from realdata import DATA, needs
from torch.nn import functional as F

from tangential import AdamP
from tangential_lab.experiments.data.images import averaged
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.retrieval import characters
from tangential_lab.experiments.retrieval.characters import moved, omniglot
from tangential_lab.experiments.retrieval.photosets import BOTH
from tangential_lab.experiments.retrieval.task import (
    recall,
    retrieval,
)
from tangential_lab.training import ProcessShare, training_batches


def test_drawings_are_averaged():
    ink = np.zeros((1, 1, 105, 105), np.uint8)
    ink[0, 0, :3, 3:6] = 255
    ink[0, 0, 102, 102] = 255
    image = averaged(ink, 3)[0, 0]
    assert image.shape == (35, 35)
    assert image[0, 1] == 255
    assert image[34, 34] == 28
    assert image.astype(int).sum() == 255 + 28


def test_drawings_are_moved_at_random_but_stay_visible():
    image = torch.zeros(50, 1, 35, 35)
    image[:, :, 15:20, 15:20] = 1
    changed = moved(image)
    assert changed.shape == image.shape
    assert len({tuple(x.flatten().tolist()) for x in changed}) == 50
    assert (changed.sum((1, 2, 3)) > 10).all()
    assert (changed - image).abs().mean() < 0.06


@needs("omniglot-py")
@pytest.mark.slow
def test_raw_pixels_are_as_published():
    """7 x 7 squares averaged: recall@1 is .337 on the classes of the report."""
    split = retrieval(data=DATA).splits["test"]
    images, labels = split.__getitems__(list(range(len(split))))
    pooled = F.avg_pool2d(images, 7, 7) if images.shape[-1] == 105 else F.avg_pool2d(images, 5, 5)
    embeddings = F.normalize(pooled.flatten(1))
    assert recall([(embeddings, labels)])["recall@1"] == pytest.approx(0.337, abs=0.03)


@needs("omniglot-py")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.slow
def test_mini_learns(loss):
    """Ten steps on one batch; images, classes and proxies reach the loss."""
    task = retrieval(data=DATA, loss=loss)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 780 * 20,
        "validation": 184 * 20,
        "test": 659 * 20,
    }
    batch = next(training_batches(task, seed=1, first_step=0, share=ProcessShare()))
    assert batch[0].shape == (task.batch_size, 1, 35, 35)
    counts = batch[1][:, 0].bincount()
    assert (counts[counts > 0] >= 4).all() or loss == "proxyanchor"
    model = task.model()
    optimizer = AdamP(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        value = task.loss(model, batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


# ---- torchvision's layout


@pytest.fixture
def drawn(home):
    """Omniglot's layout: two characters of twenty drawings in either half."""
    bits = np.random.default_rng(0).random((2, 40, 105, 105)) < 0.1
    for half, some in zip(("images_background", "images_evaluation"), bits, strict=True):
        for i, ink in enumerate(some):
            folder = home / "omniglot-py" / half / "Alphabet" / f"character{i // 20 + 1:02}"
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1")
            picture.save(folder / f"{i // 20:04}_{i % 20 + 1:02}.png")
    return bits


def test_drawings_are_read_in_splits_of_disjoint_classes(drawn, home, monkeypatch):
    monkeypatch.setattr(characters, "VALIDATION_CLASSES", 1)
    _, splits = omniglot(home)
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 20, "validation": 20, "test": 40}
    ink = {"train": drawn[0, :20], "validation": drawn[0, 20:], "test": drawn[1]}
    for name, split in splits.items():
        assert np.array_equal(split.inputs, averaged(255 * ink[name][:, None].astype(np.uint8), 3))
        assert split.labels[:, 0].tolist() == [i // 20 for i in range(len(split))]
        assert (split.labels[:, 1] == BOTH).all()
    square = drawn[0, 0, :3, :3].mean()
    assert splits["train"].inputs[0, 0, 0, 0] == round(255 * square)


def test_files_that_are_no_drawings_are_named(home):
    for half in ("images_background", "images_evaluation"):
        (home / "omniglot-py" / half).mkdir(parents=True)
    with pytest.raises(DataError, match=r"images_background has no drawing ALPHABET/CHARACTER"):
        omniglot(home)


def test_a_broken_or_missing_drawing_is_named(drawn, home):
    """Otherwise a missing drawing would shift the labels of all later ones."""
    path = home / "omniglot-py/images_background/Alphabet/character01/0000_07.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read .*0000_07\.png as an image"):
        omniglot(home)
    path.unlink()
    with pytest.raises(DataError, match=r"Alphabet/character01 must have 20 drawings, got 19"):
        omniglot(home)
