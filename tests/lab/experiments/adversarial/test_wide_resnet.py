"""The nets have the published number of weights."""

import pytest
import torch
from rehearsal import count
from torch import nn

from tangential_lab.experiments.adversarial.wide_resnet import wide_resnet


@pytest.mark.parametrize(
    ("depth", "factor", "millions"),
    # the last digits that Zagoruyko and Komodakis print, table 4 and 5; Madry's net
    [(40, 4, 8.9), (16, 8, 11.0), (28, 10, 36.5), (34, 10, 46.2)],
)
def test_wide_nets_have_the_weights_of_their_papers(depth, factor, millions):
    with torch.device("meta"):
        assert round(count(wide_resnet(depth, factor)) / 1e6, 1) == millions


def test_the_net_of_the_paper_leaks():
    with torch.device("meta"):
        net = wide_resnet(34, 10)
    assert count(net) == 46_160_474
    slopes = [m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.1] * (2 * 15 + 1)


def test_a_depth_that_no_wide_net_has_is_refused():
    with pytest.raises(ValueError, match=r"depth must be .*10, 16.*, got 12"):
        wide_resnet(12, 1)
