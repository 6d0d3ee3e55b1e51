"""Initial weights that several nets share."""

from typing import TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def kaiming(net: Net) -> Net:
    """The net itself, after its convolutions got new weights (He et al. 2015, by fan out)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net
