"""The nets of ReBias (Bahng et al. 2020, arXiv:1910.02806): a net, and one biased on purpose."""

from torch import Tensor, nn
from torchvision.models import resnet18

from tangential_lab.experiments.data.nets import kaiming

MOMENTUM = 0.001  # of BagNet's first BatchNorm, as in its authors' code


class Featured(nn.Module):
    """A net that returns logits and the features [n, width] before its last, linear layer.

    Features are the body's output averaged over the image.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, channels, h, w] to [n, classes] and [n, width]."""
        features = self.body(x).mean((2, 3))
        return self.head(features), features


class Pair(nn.Module):
    """A net f and a biased net g that see the same images."""

    def __init__(self, f: nn.Module, g: nn.Module) -> None:
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Logits and features of f, and of g."""
        return self.f(x), self.g(x)


def stacked(kernel: int) -> Featured:
    """Four convolutions of size `kernel` at full resolution, with BatchNorm; for ten classes.

    With kernel 1 they cannot see shapes.
    """
    layers, inputs = [], 3
    for outputs in (16, 32, 64, 128):
        layers += [kaiming(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return Featured(nn.Sequential(*layers), inputs, 10)


def featured_resnet18(classes: int) -> Featured:
    """Torchvision's ResNet-18, which also returns its features."""
    net = resnet18()
    layers = list(net.children())[:-2]  # without its pooling and its classifier
    return Featured(nn.Sequential(*layers), net.fc.in_features, classes)


class Local(nn.Module):
    """A basic residual block; its first convolution has size `kernel`, all others 1 x 1."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int) -> None:
        super().__init__()
        first = _convolution(inputs, outputs, kernel, stride)
        second = _convolution(outputs, outputs, 1, 1)
        norms = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.inner = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1])
        self.shortcut, self.active = nn.Sequential(), nn.ReLU()
        if inputs != outputs or stride > 1:
            projection = _convolution(inputs, outputs, 1, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, about h / stride, about w / stride]."""
        inner = self.inner(x)
        height, width = inner.shape[2:]  # smaller than the shortcut: no padding
        return self.active(inner + self.shortcut(x)[:, :, :height, :width])


def bagnet18(classes: int) -> Featured:
    """BagNet-18: ResNet-18 that sees patches of 5 x 5 pixels, that is textures but not shapes."""
    layers = [_convolution(3, 64, 1, 1), _convolution(64, 64, 3, 1)]
    layers += [nn.BatchNorm2d(64, momentum=MOMENTUM), nn.ReLU()]
    inputs = 64
    for outputs, stride, kernel in ((64, 2, 3), (128, 2, 1), (256, 2, 1), (512, 1, 1)):
        layers += [Local(inputs, outputs, stride, kernel), Local(outputs, outputs, 1, 1)]
        inputs = outputs
    return Featured(nn.Sequential(*layers), inputs, classes)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return kaiming(nn.Conv2d(inputs, outputs, kernel, stride, bias=False))
