"""Heat maps, their loss, and boxes from their peaks."""

import math

import pytest
import torch
from boxed_batches import boxed

from tangential_lab.experiments.detection import peaks


@pytest.mark.parametrize("width", [1.0, 2.5, 7.0, 40.0, 128.0])
@pytest.mark.parametrize("height", [1.0, 3.0, 30.0, 127.5])
def test_radius_is_the_least_of_the_three_published(width, height):
    w, h, overlap = math.ceil(width), math.ceil(height), 0.7
    quadratics = [
        (1, h + w, w * h * (1 - overlap) / (1 + overlap)),
        (4, 2 * (h + w), (1 - overlap) * w * h),
        (4 * overlap, -2 * overlap * (h + w), (overlap - 1) * w * h),
    ]
    published = min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in quadratics)
    assert peaks.radius(torch.tensor([[width, height]])).item() == int(published)


def test_heat_falls_off_around_centres_and_takes_the_higher():
    square = (16, 24, 96, 104)  # 20 cells wide: radius 5, deviation 11 / 6
    made = peaks.objects(
        [boxed(square, (28, 24, 108, 104), labels=[1, 1])], torch.zeros(1, 2, 32, 32)
    )
    assert made.cell.tolist() == [[14, 16], [17, 16]]
    fall = lambda x, y: math.exp(-(x * x + y * y) / 2 / (11 / 6) ** 2)
    heat = made.heat[0, 1]
    assert heat[16, 14] == heat[16, 17] == 1
    assert heat[18, 14].item() == pytest.approx(fall(0, 2))
    assert heat[16, 15].item() == pytest.approx(fall(1, 0))  # not 2 cells from the other
    assert heat[21, 14].item() == pytest.approx(fall(0, 5))
    assert heat[22, 14] == heat[16, 8] == 0  # beyond the radius
    assert made.heat[0, 0].sum() == 0


def test_sizes_and_offsets_are_in_cells():
    made = peaks.objects([boxed(), boxed((9, 18, 37, 29))], torch.zeros(2, 1, 16, 16))
    assert made.image.tolist() == [1]
    assert made.cell.tolist() == [[5, 5]]  # centre 23, 23.5
    assert made.size.tolist() == [[7.0, 2.75]]
    assert made.offset.tolist() == [[0.75, 0.875]]


def drawn(targets, classes=2, cells=32):
    """Maps without an error."""
    made = peaks.objects(targets, torch.zeros(len(targets), classes, cells, cells))
    size, offset = torch.zeros(2, len(targets), 2, cells, cells)
    column, row = made.cell.unbind(1)
    size[made.image, :, row, column], offset[made.image, :, row, column] = made.size, made.offset
    return peaks.Maps(made.heat.logit(eps=1e-6), size, offset), made


def test_what_is_drawn_is_detected():
    targets = [boxed((10, 10, 50, 60), (60, 71, 90, 83), labels=[0, 1]), boxed((1, 2, 9, 5))]
    maps, made = drawn(targets)
    for found, target in zip(peaks.detections(maps), targets, strict=True):
        sure = found["scores"] > 0.99
        order = found["labels"][sure].argsort()
        torch.testing.assert_close(found["boxes"][sure][order], target["boxes"])
        assert torch.equal(found["labels"][sure][order], target["labels"])
    away = maps._replace(size=maps.size + 3, offset=maps.offset - 0.5)
    difference = peaks.loss(away, made) - peaks.loss(maps, made)
    assert difference.item() == pytest.approx(0.1 * 3 + 0.5, abs=1e-5)


def test_a_neighbour_of_a_peak_is_none_and_a_hundred_are_kept():
    heat = torch.full((1, 1, 32, 32), -20.0)
    heat[0, 0, 4, 4], heat[0, 0, 5, 5] = 2.0, 1.0
    flat = torch.zeros(1, 2, 32, 32)
    (found,) = peaks.detections(peaks.Maps(heat, flat, flat))
    assert len(found["scores"]) == 100
    assert found["scores"][0].item() == pytest.approx(1 / (1 + math.exp(-2)))
    assert found["scores"][1] < 1e-6


def test_focal_loss_by_hand():
    logits = torch.tensor([math.log(3), 0.0, -math.log(3)])  # p = 3/4, 1/2, 1/4
    heat = torch.tensor([1.0, 0.5, 0.0])
    by_hand = -(1 / 16 * math.log(3 / 4) + 1 / 16 / 4 * math.log(1 / 2) + 1 / 16 * math.log(3 / 4))
    assert peaks.focal_loss(logits, heat).item() == pytest.approx(by_hand)
    twice = peaks.focal_loss(logits.repeat(2), heat.repeat(2)).item()
    assert twice == pytest.approx(by_hand)  # a mean over centres
