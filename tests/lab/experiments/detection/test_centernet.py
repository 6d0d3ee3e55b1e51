"""CenterNet is the published net."""

import pytest
import torch
from boxed_batches import NETS, batch
from rehearsal import count
from torch import nn
from torchvision import models

from tangential_lab.experiments.detection.centernet import resdcn18


def test_resdcn18_has_the_published_number_of_weights():
    backbone = count(models.resnet18()) - 513_000  # its classifier
    ups = [(512, 256), (256, 128), (128, 64)]
    stages = sum(
        (9 * i + 1) * o  # deformable convolution
        + (9 * i + 1) * 27  # its shifts and masks
        + 16 * o * o  # transposed convolution
        + 4 * o  # two BatchNorms
        for i, o in ups
    )
    heads = sum((9 * 64 + 1) * 64 + 65 * outputs for outputs in (80, 2, 2))
    assert count(resdcn18(80)) == backbone + stages + heads == 14_437_349  # published: 14.44 M


def test_backbone_is_torchvisions_resnet18():
    theirs, ours = models.resnet18().eval(), resdcn18(1).backbone.eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    pooled = theirs.avgpool(ours(x)).flatten(1)
    torch.testing.assert_close(theirs.fc(pooled), theirs(x))


def test_deformable_convolution_starts_as_half_a_plain_one():
    net = NETS["centernet"]()
    deformed = net.ups[0][0]
    x = torch.randn(2, 16, 5, 6)
    conv = deformed.conv
    plain = nn.functional.conv2d(x, conv.weight / 2, conv.bias, padding=1)
    torch.testing.assert_close(deformed(x), plain)


def test_bias_of_the_heat_makes_peaks_rare():
    pixels, _ = batch()
    heat = NETS["centernet"]().maps(pixels).heat.sigmoid()
    assert heat.mean().item() == pytest.approx(0.1, abs=0.05)
