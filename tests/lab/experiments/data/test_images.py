"""Random changes of batches of images."""

import torch

from tangential_lab.experiments.data.images import mirrored, scaled, shifted
from tangential_lab.experiments.imagenet.task import CutMixed
from tangential_lab.training import TensorSplit


def test_an_image_is_moved_by_every_distance_within_the_margin():
    batch = torch.zeros(4000, 1, 9, 9, dtype=torch.uint8)
    batch[:, 0, 4, 4] = 7
    places = shifted(batch, margin=2).nonzero()[:, 2:]
    assert len(places) == 4000  # the margin is black, and nothing is moved out of sight
    seen, times = places.unique(dim=0, return_counts=True)
    assert {tuple(place) for place in seen.tolist()} == {
        (y, x) for y in range(2, 7) for x in range(2, 7)
    }
    assert times.min() > 4000 / 25 / 2


def test_a_moved_image_is_a_part_of_itself():
    batch = torch.arange(2 * 3 * 64, dtype=torch.uint8).reshape(2, 3, 8, 8)
    for before, after in zip(batch, shifted(batch, margin=1), strict=True):
        framed = torch.nn.functional.pad(before, (1, 1, 1, 1))
        parts = [framed[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        assert sum(torch.equal(after, part) for part in parts) == 1


def test_half_of_the_images_are_mirrored():
    batch = torch.arange(1000 * 12).reshape(1000, 1, 3, 4)
    changed = mirrored(batch)
    same = (changed == batch).flatten(1).all(1)
    assert torch.equal(changed[~same], batch[~same].flip(3))
    assert 400 < same.sum() < 600


def test_bytes_become_numbers_with_channels_last():
    batch = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    numbers = scaled(batch, mean=0.5, deviation=0.25)
    torch.testing.assert_close(numbers, (batch / 255 - 0.5) / 0.25)
    assert numbers.is_contiguous(memory_format=torch.channels_last)


def test_the_label_of_a_cut_image_has_the_shares_of_its_pixels():
    labels = torch.arange(6)
    flat = labels.float().view(6, 1, 1, 1).expand(6, 1, 20, 20).contiguous()
    mixed = CutMixed(TensorSplit(flat, labels), classes=6)
    kept = []
    for _ in range(20):
        inputs, shares = mixed.__getitems__(list(range(6)))
        pixels = torch.stack([(inputs == c).float().mean((1, 2, 3)) for c in range(6)], 1)
        torch.testing.assert_close(pixels, shares)
        kept.append(shares.max().item())
    assert min(kept) < 0.8  # images are in fact cut
