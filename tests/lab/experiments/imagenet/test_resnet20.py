"""ResNet-20 is the published net."""

import torch
from rehearsal import count

from tangential_lab.experiments.imagenet.task import resnet20


def test_the_net_for_cifar_has_the_weights_of_its_paper():
    net = resnet20()
    convolutions = 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864  # layer by layer
    norms, head = 2 * (7 * 16 + 6 * 32 + 6 * 64), 64 * 10 + 10
    assert count(net) == convolutions + norms + head == 269_722  # "0.27 M" in table 6
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 19


def test_the_shortcut_keeps_every_second_pixel_and_adds_channels_of_zeros():
    block = resnet20()[6]  # the first of the second stage
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert out.shape == (2, 32, 4, 4)
    assert not out[:, 16:].any()
