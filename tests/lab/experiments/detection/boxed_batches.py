"""Small detectors and batches of boxes, for tests."""

import torch

from tangential_lab.experiments.detection import task as rooms
from tangential_lab.experiments.detection.centernet import CenterNet
from tangential_lab.experiments.detection.ssd import Detector

SMALL = (64, 96)
NETS = {
    "centernet": lambda: CenterNet(3, widths=(8, 8, 16, 16), ups=(8, 8, 8), head=8),
    "ssd": lambda: Detector(3, SMALL, rooms.MINI_SSD._replace(width=1 / 16)),
}


def boxed(*boxes, labels=None):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels if labels is not None else [0] * len(boxes)).long(),
    }


def batch(count=4):
    pixels = torch.randint(0, 256, (count, 3, *SMALL), dtype=torch.uint8)
    target = boxed((8, 8, 40, 48), (50, 20, 61, 30), (20, 10, 90, 60), labels=[0, 1, 2])
    return pixels, [target] * count


def default_boxes(net):
    seen = []
    net.ssd.anchor_generator.register_forward_hook(lambda module, given, made: seen.append(made[0]))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, *SMALL, dtype=torch.uint8))
    return seen[0]
