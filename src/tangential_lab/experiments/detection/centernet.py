"""CenterNet on a ResNet with deformable up-convolutions (Objects as Points, 2019), at any width."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.models.resnet import BasicBlock
from torchvision.ops import DeformConv2d, deform_conv2d

from tangential_lab.experiments.data.pretrained import downloaded
from tangential_lab.experiments.detection.boxes import Boxes
from tangential_lab.experiments.detection.detectors import Pixels
from tangential_lab.experiments.detection.peaks import Maps, detections, loss, objects

RARE = -2.19  # logit of a peak before training: one in ten


def resdcn18(classes: int, *, pretrained: bool = False) -> "CenterNet":
    """The published CenterNet of ResNet-18, its backbone pretrained on ImageNet if so wanted.

    Raises:
        DataError: the weights are neither in torch's cache nor to be downloaded.
    """
    net = CenterNet(classes)
    if pretrained:
        state = downloaded(ResNet18_Weights.IMAGENET1K_V1)
        net.backbone.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    return net


class CenterNet(nn.Module):
    """Losses of images with boxes, or detections of images without.

    Args:
        classes: Number of them.
        widths: Channels of the ResNet's stages, four as published.
        depth: Blocks in each.
        ups: Channels of the up-convolutions, one fewer, which undo the stages' strides.
        head: Channels inside each of the three heads.
    """

    def __init__(
        self,
        classes: int,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        depth: int = 2,
        ups: tuple[int, ...] = (256, 128, 64),
        head: int = 64,
    ) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.backbone = resnet(widths, depth)
        steps = zip((widths[-1], *ups), ups, strict=False)
        self.ups = nn.Sequential(*(_up(inputs, outputs) for inputs, outputs in steps))
        self.heat, self.size, self.offset = (_head(ups[-1], head, k) for k in (classes, 2, 2))
        for values in (p for p in self.heat[-1].parameters() if p.dim() == 1):
            nn.init.constant_(values, RARE)
        for values in (*self.size.parameters(), *self.offset.parameters()):
            nn.init.zeros_(values) if values.dim() == 1 else nn.init.normal_(values, std=0.001)

    def forward(self, images: Tensor, targets: list[Boxes] | None = None) -> Tensor | list[Boxes]:
        """The loss of images [n, 3, h, w] with their boxes; without them, what is detected."""
        maps = self.maps(images)
        if targets is None:
            return detections(maps)
        return loss(maps, objects(targets, maps.heat))

    def maps(self, images: Tensor) -> Maps:
        """The maps in float32 at least: the loss takes logarithms of what low precision rounds."""
        features = self.ups(self.backbone(self.pixels(images)))
        outputs = [head(features) for head in (self.heat, self.size, self.offset)]
        return Maps(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in outputs))


# ---- the net


def resnet(widths: tuple[int, ...], depth: int) -> nn.Sequential:
    """ResNet of basic blocks without classifier, as torchvision's and named alike, at any width."""
    stem = [
        ("conv1", nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)),
        ("bn1", nn.BatchNorm2d(widths[0])),
        ("relu", nn.ReLU(inplace=True)),
        ("maxpool", nn.MaxPool2d(3, stride=2, padding=1)),
    ]
    widths = (widths[0], *widths)
    stages = [
        (f"layer{i}", _stage(widths[i - 1], widths[i], depth, stride=1 if i == 1 else 2))
        for i in range(1, len(widths))
    ]
    net = nn.Sequential(OrderedDict([*stem, *stages]))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def _stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride > 1 or inputs != outputs:
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(depth - 1)))


class Deformed(nn.Module):
    """A 3x3 convolution that looks where its input tells it to, as hard as it tells it to."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.where = nn.Conv2d(inputs, 27, 3, padding=1)  # 9 places: x and y shift, and a mask
        self.conv = DeformConv2d(inputs, outputs, 3, padding=1)
        for values in self.where.parameters():
            nn.init.zeros_(values)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        shift, mask = self.where(x).split((18, 9), 1)
        # Where a shift is not a number, torchvision reads anywhere in memory and crashes; the mask
        # of a diverged model still is none, and passes it on.
        shift = shift.nan_to_num(0.0)
        kernel = torch.promote_types(x.dtype, torch.float32)  # a CPU has it in no lower precision
        x, shift, mask, weight, bias = (
            values.to(kernel)
            for values in (x, shift, mask.sigmoid(), self.conv.weight, self.conv.bias)
        )
        return deform_conv2d(x, shift, weight, bias, padding=(1, 1), mask=mask)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        Deformed(inputs, outputs),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(outputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    first = nn.Conv2d(inputs, hidden, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 1))
