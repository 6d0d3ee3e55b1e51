"""The nets have the published number of weights."""

import pytest
import torch
from rehearsal import count
from torch import nn

from tangential_lab.experiments.adversarial.wide_resnet import Block, Padded, wide_resnet


@pytest.mark.parametrize(
    ("depth", "factor", "millions"),
    # the last digits that Zagoruyko and Komodakis print, table 4 and 5
    [(40, 4, 8.9), (16, 8, 11.0), (28, 10, 36.5)],
)
def test_wide_nets_have_the_weights_of_their_papers(depth, factor, millions):
    with torch.device("meta"):
        assert round(count(wide_resnet(depth, factor)) / 1e6, 1) == millions


def test_the_net_of_the_paper_has_padded_shortcuts_and_leaky_relu():
    with torch.device("meta"):
        net = wide_resnet(34, 10, shortcut="padding")
    projections = 16 * 160 + 160 * 320 + 320 * 640
    assert count(net) == 46_160_474 - projections == 45_901_914
    sides = {m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)}
    assert sides == {(3, 3)}
    slopes = [m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.1] * (2 * 15 + 1)


def test_a_padded_shortcut_averages_pixels_and_has_zeros_on_both_sides():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    out = Padded(1, 4, 2)(x)
    assert out[0, 1].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert out.abs().sum((0, 2, 3)).tolist() == [0, 30, 0, 0]


def test_only_the_first_of_madrys_blocks_activates_its_shortcut():
    """As `activate_before_residual` in model.py of MadryLab/cifar10_challenge."""
    net = wide_resnet(16, 2, shortcut="padding").eval()
    blocks = [block for block in net if isinstance(block, Block)]
    assert [isinstance(block.shortcut, Padded) for block in blocks] == [True, False] * 3
    x = torch.randn(2, 16, 8, 8)
    for number, block in enumerate(blocks):
        active = block.active(x)
        seen = active if number == 0 else x
        if number % 2 == 0:
            pooled = nn.functional.avg_pool2d(seen, 1 if number == 0 else 2)
            zeros = torch.zeros_like(pooled)
            half = zeros[:, : zeros.shape[1] // 2]  # channels double, from 16 to 32 to 64 to 128
            seen = torch.cat([half, pooled, half], 1)
        x = block(block_input := x)
        assert torch.equal(x, block.inner(block.active(block_input)) + seen)


def test_a_wrong_depth_is_refused():
    with pytest.raises(ValueError, match=r"depth must be .*10, 16.*, got 12"):
        wide_resnet(12, 1)
