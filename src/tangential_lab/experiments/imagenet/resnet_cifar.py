"""Residual nets for images of 32 x 32 (He et al. 2015, arXiv:1512.03385, section 4.2)."""

from torch import Tensor, nn
from torch.nn import functional as F

from tangential_lab.experiments.data.nets import kaiming

BLOCKS = 3  # in each of three stages: 1 + 2 * 3 * 3 + 1 = 20 layers
WIDTH = 16  # channels of the first stage; the others have twice and four times as many


class Block(nn.Module):
    """Two convolutions and a shortcut without weights (option A: new channels are zero)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = _normed(inputs, outputs, stride), _normed(outputs, outputs, 1)
        self.inner = nn.Sequential(*first, nn.ReLU(), *second)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(self.inner(x) + F.pad(shortcut, (0, 0, 0, 0, 0, self.added)))


def resnet20() -> nn.Sequential:
    """ResNet-20 for ten classes, which has 0.27 million weights."""
    layers, inputs = [*_normed(3, WIDTH, 1), nn.ReLU()], WIDTH
    for stage in range(3):
        outputs = WIDTH << stage
        for block in range(BLOCKS):
            layers.append(Block(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def _normed(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [kaiming(convolution), nn.BatchNorm2d(outputs)]
