"""Objects as peaks of a heat map (Zhou, Wang and Krähenbühl, Objects as Points, 2019).

A cell is one pixel of the maps: four pixels of the input in each direction.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tangential_lab.experiments.detection.boxes import Boxes

CELL = 4  # pixels
OVERLAP = 0.7  # meant to remain if a box is moved by the radius
DETECTIONS = 100  # per image
SIZE_WEIGHT = 0.1  # of the sizes in the loss


class Maps(NamedTuple):
    """The net's outputs for n images: a value for every cell."""

    heat: Tensor  # [n, classes, h, w], logits
    size: Tensor  # [n, 2, h, w], width and height in cells
    offset: Tensor  # [n, 2, h, w], of the centre from the cell's corner, in cells


class Objects(NamedTuple):
    """The targets of the maps: all m objects of a batch, and the heat around their centres."""

    heat: Tensor  # [n, classes, h, w], 1 at a centre
    image: Tensor  # [m]
    cell: Tensor  # [m, 2], column and row of the centre
    size: Tensor  # [m, 2]
    offset: Tensor  # [m, 2]


def objects(targets: list[Boxes], heat: Tensor) -> Objects:
    """The targets of maps that have the shape of this heat map."""
    n, classes, height, width = heat.shape
    boxes = torch.cat([t["boxes"] for t in targets]).to(heat.dtype) / CELL
    labels = torch.cat([t["labels"] for t in targets])
    counts = torch.tensor([len(t["labels"]) for t in targets], device=heat.device)
    image = torch.arange(n, device=heat.device).repeat_interleave(counts, output_size=len(labels))
    low, high = boxes[:, :2], boxes[:, 2:]
    centre, size = (low + high) / 2, high - low
    last = torch.tensor([width - 1, height - 1], device=heat.device)
    cell = torch.minimum(centre.long(), last)
    spread = radius(size)
    rows, columns = _bump(cell[:, 1], spread, height), _bump(cell[:, 0], spread, width)
    bumps = rows[:, :, None] * columns[:, None, :]
    plane = (image * classes + labels)[:, None, None].expand_as(bumps)
    target = heat.new_zeros(n * classes, height, width).scatter_reduce_(0, plane, bumps, "amax")
    return Objects(target.view_as(heat), image, cell, size, centre - cell)


def radius(size: Tensor) -> Tensor:
    """How far heat spreads around the centre of boxes of these sizes [m, 2], in whole cells.

    The published code takes the smallest of three roots of quadratic equations, but forgets to
    divide by the leading coefficients. The smallest is then always this one: .27 of the side of a
    square, where .08 was meant. We keep it, because the published results have it.
    """
    width, height = size.ceil().unbind(-1)
    half = OVERLAP * (width + height)
    root = (half.square() + 4 * OVERLAP * (1 - OVERLAP) * width * height).sqrt()
    return (root - half).floor()


def _bump(centre: Tensor, radius: Tensor, length: int) -> Tensor:
    """A Gaussian of height 1 around each centre [m], zero beyond the radius [m, length]."""
    deviation = (2 * radius + 1) / 6
    away = torch.arange(length, device=centre.device) - centre[:, None]
    bump = torch.exp(-(away**2) / (2 * deviation[:, None] ** 2))
    return torch.where(away.abs() <= radius[:, None], bump, 0.0)


def loss(maps: Maps, objects: Objects) -> Tensor:
    """Focal loss of the heat, plus L1 loss of the offsets, plus a tenth of that of the sizes."""
    column, row = objects.cell.unbind(1)
    size, offset = (x[objects.image, :, row, column] for x in (maps.size, maps.offset))
    numbers = max(1, objects.size.numel())
    distances = [
        F.l1_loss(output, target, reduction="sum") / numbers
        for output, target in ((size, objects.size), (offset, objects.offset))
    ]
    return focal_loss(maps.heat, objects.heat) + SIZE_WEIGHT * distances[0] + distances[1]


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    r"""Focal loss whose penalty is smaller near a centre.

    With p the predicted heat, y its target and N the number of centres (published with alpha 2 and
    beta 4): ``-1/N sum (1-p)^2 log p`` where y = 1, ``(1-y)^4 p^2 log(1-p)`` elsewhere.

    >>> focal_loss(torch.zeros(2), torch.tensor([1.0, 0.5]))  # (1/4 + 1/64) log 2
    tensor(0.1841)
    """
    p, centres = logits.sigmoid(), heat == 1
    at_centres = (1 - p).square() * F.logsigmoid(logits)
    elsewhere = (1 - heat) ** 4 * p.square() * F.logsigmoid(-logits)
    return -torch.where(centres, at_centres, elsewhere).sum() / centres.sum().clamp(min=1)


def detections(maps: Maps) -> list[Boxes]:
    """The hundred highest peaks of every image: cells with no higher neighbour in their class."""
    n, _, height, width = maps.heat.shape
    heat = maps.heat.sigmoid()
    peaks = torch.where(heat == F.max_pool2d(heat, 3, stride=1, padding=1), heat, 0.0)
    scores, places = peaks.flatten(1).topk(min(DETECTIONS, peaks[0].numel()))
    cells = places % (height * width)
    cell = torch.stack([cells % width, cells // width], 2)
    image = torch.arange(n, device=cells.device)[:, None]
    at = lambda x: x.flatten(2).transpose(1, 2)[image, cells]
    centre, half = cell + at(maps.offset), at(maps.size) / 2
    boxes = CELL * torch.cat([centre - half, centre + half], 2)
    labels = places // (height * width)
    return [  # a score of 0 is no peak; NaN is left out, too
        {"boxes": b[s > 0], "labels": k[s > 0], "scores": s[s > 0]}
        for b, k, s in zip(boxes, labels, scores, strict=True)
    ]
