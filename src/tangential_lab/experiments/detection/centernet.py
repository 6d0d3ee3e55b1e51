"""CenterNet: a ResNet with deformable up-convolutions, at any width (Objects as Points, 2019)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.models.resnet import BasicBlock
from torchvision.ops import DeformConv2d, deform_conv2d

from tangential_lab.experiments.data.nets import kaiming
from tangential_lab.experiments.data.photographs import pretrained_weights
from tangential_lab.experiments.detection.boxes import Boxes, Pixels
from tangential_lab.experiments.detection.peaks import Maps, detections, loss, objects

INITIAL_LOGIT = -2.19  # of a peak before training: a probability of one in ten


def resdcn18(classes: int, *, pretrained: bool = False) -> "CenterNet":
    """The published CenterNet on ResNet-18; `pretrained` starts from ImageNet's weights."""
    net = CenterNet(classes)
    if pretrained:
        state = pretrained_weights(ResNet18_Weights.IMAGENET1K_V1)
        net.backbone.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    return net


class CenterNet(nn.Module):
    """A detector: returns the loss of images with boxes, or detects boxes in images.

    Args:
        classes: Number of classes.
        widths: Channels of the ResNet's stages; four as published.
        ups: Channels of the up-convolutions, which undo the strides of all stages except one.
        head: Channels inside each of the three heads.
    """

    def __init__(
        self,
        classes: int,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        ups: tuple[int, ...] = (256, 128, 64),
        head: int = 64,
    ) -> None:
        super().__init__()
        self.pixels = Pixels()
        self.backbone = resnet(widths)
        steps = zip((widths[-1], *ups), ups, strict=False)
        self.ups = nn.Sequential(*(_up(inputs, outputs) for inputs, outputs in steps))
        self.heat, self.size, self.offset = (_head(ups[-1], head, k) for k in (classes, 2, 2))
        for values in (p for p in self.heat[-1].parameters() if p.dim() == 1):
            nn.init.constant_(values, INITIAL_LOGIT)
        for values in (*self.size.parameters(), *self.offset.parameters()):
            nn.init.zeros_(values) if values.dim() == 1 else nn.init.normal_(values, std=0.001)

    def forward(self, images: Tensor, targets: list[Boxes] | None = None) -> Tensor | list[Boxes]:
        """The loss of images [n, 3, h, w] with their boxes; without boxes, the detections."""
        maps = self.maps(images)
        if targets is None:
            return detections(maps)
        return loss(maps, objects(targets, maps.heat))

    def maps(self, images: Tensor) -> Maps:
        """The maps, in float32 or wider: the loss takes logarithms, which need the precision."""
        features = self.ups(self.backbone(self.pixels(images)))
        outputs = [head(features) for head in (self.heat, self.size, self.offset)]
        return Maps(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in outputs))


def resnet(widths: tuple[int, ...]) -> nn.Sequential:
    """Torchvision's ResNet of two basic blocks per stage, with its names, without classifier."""
    stem = [
        ("conv1", nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)),
        ("bn1", nn.BatchNorm2d(widths[0])),
        ("relu", nn.ReLU(inplace=True)),
        ("maxpool", nn.MaxPool2d(3, stride=2, padding=1)),
    ]
    widths = (widths[0], *widths)
    stages = [
        (f"layer{i}", _stage(widths[i - 1], widths[i], stride=1 if i == 1 else 2))
        for i in range(1, len(widths))
    ]
    return kaiming(nn.Sequential(OrderedDict([*stem, *stages])))


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride > 1 or inputs != outputs:
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, BasicBlock(outputs, outputs))


class Deformed(nn.Module):
    """A 3x3 convolution whose input determines the places that it reads, and their weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.where = nn.Conv2d(inputs, 27, 3, padding=1)  # 9 places: x and y shift, and a mask
        self.conv = DeformConv2d(inputs, outputs, 3, padding=1)
        for values in self.where.parameters():
            nn.init.zeros_(values)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, outputs, h, w]."""
        shift, mask = self.where(x).split((18, 9), 1)
        # If a shift is NaN, torchvision reads arbitrary memory and crashes. In a diverged model the
        # mask is NaN, too, so the output is still NaN.
        shift = shift.nan_to_num(0.0)
        wide = torch.promote_types(x.dtype, torch.float32)  # the CPU kernel has no lower precision
        inputs = (x, shift, self.conv.weight, self.conv.bias, mask.sigmoid())
        x, shift, weight, bias, mask = (values.to(wide) for values in inputs)
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
