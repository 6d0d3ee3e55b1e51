"""Wide residual nets (Zagoruyko and Komodakis 2016, arXiv:1605.07146), with LeakyReLU."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tangential_lab.experiments.data.nets import kaiming

SLOPE = 0.1  # of LeakyReLU for negative inputs

Shortcut = Literal["projection", "padding"]


class Padded(nn.Module):
    """Averages over stride x stride pixels; half of the new channels, all zero, on each side."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        before = (outputs - inputs) // 2
        self.added, self.stride = (before, outputs - inputs - before), stride

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        return F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, *self.added))


class Block(nn.Module):
    """Normalise, activate, convolve, twice; plus a shortcut.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Of the first convolution.
        shortcut: Its kind where channels or size change; elsewhere it is the input.
        activated: Whether such a shortcut sees the input after its activation.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, shortcut: Shortcut, *, activated: bool
    ) -> None:
        super().__init__()
        self.active = _active(inputs)
        self.inner = nn.Sequential(
            _convolution(inputs, outputs, 3, stride),
            _active(outputs),
            _convolution(outputs, outputs, 3, 1),
        )
        self.shortcut, self.activated = None, activated
        if inputs != outputs or stride > 1:
            padded = shortcut == "padding"
            size = inputs, outputs
            self.shortcut = Padded(*size, stride) if padded else _convolution(*size, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        active = self.active(x)
        if self.shortcut is None:
            return self.inner(active) + x
        return self.inner(active) + self.shortcut(active if self.activated else x)


def wide_resnet(
    depth: int, factor: int, *, channels: int = 3, shortcut: Shortcut = "projection"
) -> nn.Sequential:
    """WRN-depth-factor for ten classes.

    Args:
        depth: Number of layers, 6 n + 4: 10, 16, 22, 28, 34, ...
        factor: Channels relative to the nets of He et al.
        channels: Channels of the input.
        shortcut: Where channels or size change: "projection" is a 1 x 1 convolution of the
            activated input, as by Zagoruyko and Komodakis; "padding" is average pooling and zeros,
            without weights, as by Madry et al. 2017: only the first block activates it.

    Raises:
        ValueError: depth is not 6 n + 4.
    """
    count, rest = divmod(depth - 4, 6)
    if rest or count < 1:
        raise ValueError(f"depth must be 6 n + 4 (10, 16, 22, 28, ...), got {depth}")
    layers: list[nn.Module] = [_convolution(channels, 16, 3, 1)]
    inputs = 16
    for stage in range(3):
        outputs = (16 << stage) * factor
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            activated = shortcut == "projection" or stage == 0
            layers.append(Block(inputs, outputs, stride, shortcut, activated=activated))
            inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers, *_active(inputs), *head)


def _active(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return kaiming(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False))
