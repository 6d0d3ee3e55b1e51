"""Wide residual nets (Zagoruyko and Komodakis 2016, arXiv:1605.07146), with LeakyReLU."""

from torch import Tensor, nn

from tangential_lab.experiments.data.nets import kaiming

SLOPE = 0.1  # of LeakyReLU for negative inputs


class Block(nn.Module):
    """Normalise, activate, convolve, twice; plus a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.active = _active(inputs)
        self.inner = nn.Sequential(
            _convolution(inputs, outputs, 3, stride),
            _active(outputs),
            _convolution(outputs, outputs, 3, 1),
        )
        changes = inputs != outputs or stride > 1
        self.shortcut = _convolution(inputs, outputs, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        active = self.active(x)
        return self.inner(active) + (self.shortcut(active) if self.shortcut else x)


def wide_resnet(depth: int, factor: int, *, channels: int = 3) -> nn.Sequential:
    """WRN-depth-factor for ten classes.

    Args:
        depth: Number of layers, 6 n + 4: 10, 16, 22, 28, 34, ...
        factor: Channels relative to the nets of He et al.
        channels: Channels of the input.

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
            layers.append(Block(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers, *_active(inputs), *head)


def _active(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return kaiming(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False))
