"""SSD: boxes at every place and scale, kept or not (Liu et al. 2016).

Heads, default boxes, matching, loss and decoding are torchvision's. Its backbone has no
normalisation; here is VGG with BatchNorm, also in the layers that SSD adds, at any width. The
learnt scale that the original puts on its first feature map is left out: BatchNorm does that.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.vgg import cfgs, make_layers

from tangential_lab.experiments.data.pretrained import downloaded
from tangential_lab.experiments.detection.boxes import Boxes
from tangential_lab.experiments.detection.detectors import Pixels

DETECTIONS = 100  # of an image


class Extra(NamedTuple):
    """A feature map that SSD adds: 1x1 and 3x3 convolution."""

    hidden: int
    outputs: int
    stride: int
    padding: int


class Layout(NamedTuple):
    """Which feature maps, and which default boxes on each."""

    vgg: str  # torchvision's letter: "A" is VGG11, "D" is VGG16
    width: float  # channels, as a share of VGG's
    dilation: int  # of the convolution after VGG, whose map has stride 16
    extras: tuple[Extra, ...]
    ratios: tuple[tuple[int, ...], ...]  # of default boxes' sides, beside 1, by feature map
    scales: tuple[float, ...]  # of default boxes, as shares of the image; one more than maps
    steps: tuple[int, ...] | None  # pixels from box to box; None: as the maps divide the image


SSD300 = Layout(
    vgg="D",
    width=1.0,
    dilation=6,
    extras=(
        Extra(256, 512, 2, 1),
        Extra(128, 256, 2, 1),
        Extra(128, 256, 1, 0),
        Extra(128, 256, 1, 0),
    ),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    steps=(8, 16, 32, 64, 100, 300),
)


def ssd300(classes: int, *, pretrained: bool = False) -> "Detector":
    """SSD300 on VGG16 with BatchNorm, pretrained on ImageNet if so wanted.

    Raises:
        DataError: the weights are neither in torch's cache nor to be downloaded.
    """
    features = Features(SSD300)
    if pretrained:
        state = downloaded(VGG16_BN_Weights.IMAGENET1K_V1)
        own = {k.removeprefix("features."): v for k, v in state.items() if "features." in k}
        for part in (features.fine, features.coarse):  # layers have kept their numbers
            part.load_state_dict({k: own[k] for k in part.state_dict()})
    return Detector(classes, (300, 300), features)


class Detector(nn.Module):
    """Losses of images with boxes (in training mode), or detections of images without (else).

    Args:
        classes: Number of them, without background.
        size: Height and width of the images.
        features: The backbone.
    """

    def __init__(self, classes: int, size: tuple[int, int], features: "Features") -> None:
        super().__init__()
        layout = features.layout
        self.pixels = Pixels()
        places = DefaultBoxes(
            [list(r) for r in layout.ratios],
            scales=list(layout.scales),
            steps=list(layout.steps) if layout.steps else None,
        )
        self.ssd = SSD(
            features,
            places,
            (size[1], size[0]),  # `SSD` wants width first; it would stretch images otherwise
            num_classes=classes + 1,
            image_mean=[0.0] * 3,  # `pixels` does that
            image_std=[1.0] * 3,
            head=Head(features.out_channels, places.num_anchors_per_location(), classes + 1),
            detections_per_img=DETECTIONS,
        ).to(memory_format=torch.channels_last)  # steps on a CPU take a third less time so

    def forward(self, images: Tensor, targets: list[Boxes] | None = None) -> Tensor | list[Boxes]:
        """The loss of images [n, 3, h, w] with their boxes; without them, what is detected."""
        pixels = list(self.pixels(images))
        if targets is None:
            return [d | {"labels": d["labels"] - 1} for d in self.ssd(pixels)]
        shifted = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]  # 0 is ground
        losses = self.ssd(pixels, shifted)
        return losses["bbox_regression"] + losses["classification"]


class Head(SSDHead):
    """The original's, with answers in float32 at least: bfloat16 would move boxes by pixels."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Logits and encoded boxes."""
        answers = super().forward(x)
        return {k: v.to(torch.promote_types(v.dtype, torch.float32)) for k, v in answers.items()}


class DefaultBoxes(DefaultBoxGenerator):
    """The original's, likewise in float32 at least."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The boxes of every image, as x1 y1 x2 y2."""
        wide = torch.promote_types(feature_maps[0].dtype, torch.float32)
        shapes = [x[:1, :1].to(wide) for x in feature_maps]  # values are not looked at
        return super().forward(image_list, shapes)


class Features(nn.Module):
    """VGG's last feature map of stride 8, that of stride 16 after two more layers, and extras."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        narrow = lambda channels: round(layout.width * channels)
        layers = vgg(layout.vgg, layout.width)
        pools = [(i, x) for i, x in enumerate(layers) if isinstance(x, nn.MaxPool2d)]
        pools[2][1].ceil_mode = True  # 300 pixels are 38 cells, as published, and not 37
        cut = pools[3][0]
        self.fine, self.coarse = layers[:cut], layers[cut:-1]  # the last pool is another here
        last, wide = narrow(512), narrow(1024)
        self.middle = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            *_convolution(last, wide, 3, padding=layout.dilation, dilation=layout.dilation),
            *_convolution(wide, wide, 1),
        )
        outputs = [wide, *(narrow(extra.outputs) for extra in layout.extras)]
        self.extras = nn.ModuleList(
            nn.Sequential(
                *_convolution(inputs, narrow(extra.hidden), 1),
                *_convolution(
                    narrow(extra.hidden), out, 3, stride=extra.stride, padding=extra.padding
                ),
            )
            for extra, (inputs, out) in zip(layout.extras, pairwise(outputs), strict=True)
        )
        self.out_channels = [last, *outputs]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Feature maps, the finest first."""
        x = x.contiguous(memory_format=torch.channels_last)
        first = self.fine(x)
        maps = [first, self.middle(self.coarse(first))]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return OrderedDict((str(i), x) for i, x in enumerate(maps))


def vgg(letter: str, width: float) -> nn.Sequential:
    """VGG with BatchNorm, without classifier, torchvision's at any width."""
    plan = [c if isinstance(c, str) else round(width * c) for c in cfgs[letter]]
    return make_layers(plan, batch_norm=True)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
