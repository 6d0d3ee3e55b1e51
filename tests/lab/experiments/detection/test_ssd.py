"""SSD is the published net; its loss and its detections by hand."""

import math

import pytest
import torch
from boxed_batches import NETS, SMALL, boxed, default_boxes
from rehearsal import count
from torch import nn
from torchvision.models.detection import SSD300_VGG16_Weights, ssd300_vgg16

from tangential_lab.experiments.detection.ssd import SSD300, Features, ssd300


@pytest.mark.slow
def test_ssd300_has_the_published_convolutions_and_boxes():
    published = ssd300_vgg16(weights=None, weights_backbone=None)
    assert count(published) == SSD300_VGG16_Weights.COCO_V1.meta["num_params"]
    kernels = lambda net: sorted(p.shape for p in net.parameters() if p.dim() == 4)
    net = ssd300(90).eval()
    assert kernels(net) == kernels(published)
    with torch.no_grad():
        maps = list(net.ssd.backbone(torch.zeros(1, 3, 300, 300)).values())
    assert [x.shape[-1] for x in maps] == [38, 19, 10, 5, 3, 1]
    per_place = net.ssd.anchor_generator.num_anchors_per_location()
    cells = [x.shape[-1] ** 2 for x in maps]
    assert sum(n * c for n, c in zip(per_place, cells, strict=True)) == 8732


def test_every_ssd_convolution_before_a_map_is_normalised():
    features = Features(SSD300)
    count = lambda kind: sum(isinstance(m, kind) for m in features.modules())
    assert count(nn.Conv2d) == count(nn.BatchNorm2d) == 13 + 2 + 8


class Fixed(nn.Module):
    """A head with constant outputs."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, maps):
        return {
            "cls_logits": self.logits,
            "bbox_regression": torch.zeros(*self.logits.shape[:2], 4),
        }


def test_ssd_loss_by_hand():
    net = NETS["ssd"]()
    boxes = default_boxes(net)
    net.ssd.head = Fixed(torch.zeros(1, len(boxes), 4))
    size = torch.tensor([0.18 * SMALL[1], 0.18 * SMALL[0]])
    square = next(b for b in boxes if torch.allclose(b[2:] - b[:2], size) and b.min() > 0)
    target = boxed(square.tolist(), labels=[2])
    # overlaps above a half: the box itself; at .547 those that are longer by sqrt(2) one way and
    # shorter the other; at .529 the next larger square. Sides are encoded as 5 log(ratio).
    longer, larger = 5 * math.log(2) / 2, 5 * math.log(0.34 / 0.18) / 2
    regression = 2 * (2 * (longer - 0.5) + (larger - 0.5)) / 4
    classification = (1 + 3) * math.log(4)  # three negatives for every positive, four even classes
    loss = net.train()(torch.zeros(1, 3, *SMALL, dtype=torch.uint8), [target])
    assert loss.item() == pytest.approx(regression + classification, rel=1e-4)


def test_ssd_detects_its_default_boxes_and_no_background():
    net = NETS["ssd"]()
    boxes = default_boxes(net)
    number = next(i for i, b in enumerate(boxes) if b.min() > 0 and (b[2:] < 64).all())
    logits = torch.zeros(1, len(boxes), 4)
    logits[..., 0] = 20.0
    logits[0, number] = torch.tensor([0.0, 0.0, 30.0, 0.0])
    net.ssd.head = Fixed(logits)
    (found,) = net.eval()(torch.zeros(1, 3, *SMALL, dtype=torch.uint8))
    torch.testing.assert_close(found["boxes"], boxes[number : number + 1])
    assert found["labels"].tolist() == [1]  # of 0, 1, 2
