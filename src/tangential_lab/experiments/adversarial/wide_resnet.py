"""Wide residual nets (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""

from torch import Tensor, nn


class Block(nn.Module):
    """Normalise, activate, convolve, twice; plus a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, slope: float) -> None:
        super().__init__()
        self.active = _active(inputs, slope)
        self.inner = nn.Sequential(
            _convolution(inputs, outputs, 3, stride),
            _active(outputs, slope),
            _convolution(outputs, outputs, 3, 1),
        )
        changes = inputs != outputs or stride > 1
        self.shortcut = _convolution(inputs, outputs, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        active = self.active(x)
        return self.inner(active) + (self.shortcut(active) if self.shortcut else x)


def wide_resnet(
    depth: int, factor: int, *, channels: int = 3, classes: int = 10, slope: float = 0.0
) -> nn.Sequential:
    """WRN-depth-factor.

    Args:
        depth: Number of layers, 6 n + 4: 10, 16, 22, 28, 34, ...
        factor: Channels relative to the nets of He et al.
        channels: Channels of the input.
        classes: Number of outputs.
        slope: Slope of the activation for negative inputs; 0 is ReLU.

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
        layers.append(Block(inputs, outputs, 1 if stage == 0 else 2, slope))
        layers += [Block(outputs, outputs, 1, slope) for _ in range(count - 1)]
        inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers, *_active(inputs, slope), *head)


def _active(channels: int, slope: float) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(slope))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made
