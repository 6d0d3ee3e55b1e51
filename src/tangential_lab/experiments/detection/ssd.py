"""SSD: default boxes at every place and scale are classified and adjusted (Liu et al. 2016).

Heads, default boxes, matching, loss and decoding are torchvision's. The backbone is not: it is VGG
with BatchNorm, also in the layers that SSD adds, at any width. The original SSD learns a scale for
the first feature map; it is left out, because BatchNorm has one.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import Conv2dNormActivation

from tangential_lab.experiments.data.nets import kaiming
from tangential_lab.experiments.data.photographs import pretrained_weights
from tangential_lab.experiments.detection.boxes import Boxes, Pixels

DETECTIONS = 100  # per image


class Layout(NamedTuple):
    """The feature maps, and the default boxes of each."""

    vgg: str  # torchvision's letter: "A" is VGG11, "D" is VGG16
    width: float  # channels relative to VGG
    dilation: int  # of the convolution after VGG, on the map of stride 16
    extras: tuple[tuple[int, int, int, int], ...]  # hidden channels, channels, stride, padding
    ratios: list[list[int]]  # sides of default boxes, besides 1, by feature map
    scales: list[float]  # of default boxes, as shares of the image; one more than maps
    steps: list[int] | None  # pixels from box to box; None: image size / map size


SSD300 = Layout(
    vgg="D",
    width=1.0,
    dilation=6,
    extras=((256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0)),
    ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
    steps=[8, 16, 32, 64, 100, 300],
)


def ssd300(classes: int, *, pretrained: bool = False) -> "Detector":
    """SSD300 on VGG16 with BatchNorm; `pretrained` starts from ImageNet's weights."""
    net = Detector(classes, (300, 300), SSD300)
    if pretrained:
        state = pretrained_weights(VGG16_BN_Weights.IMAGENET1K_V1)
        assert isinstance(net.ssd.backbone, Features)
        for part in (net.ssd.backbone.fine, net.ssd.backbone.coarse):  # named as in VGG
            part.load_state_dict({k: state[f"features.{k}"] for k in part.state_dict()})
    return net


class Detector(nn.Module):
    """A detector: returns the loss of images with boxes (in training mode), or detects boxes.

    Args:
        classes: Number of classes, without background.
        size: Height and width of the images.
        layout: The feature maps.
    """

    def __init__(self, classes: int, size: tuple[int, int], layout: Layout) -> None:
        super().__init__()
        self.pixels, features = Pixels(), Features(layout)
        places = DefaultBoxes(layout.ratios, scales=layout.scales, steps=layout.steps)
        self.ssd = SSD(
            features,
            places,
            (size[1], size[0]),  # `SSD` expects width first; otherwise it stretches images
            num_classes=classes + 1,
            image_mean=[0.0] * 3,  # `pixels` does that
            image_std=[1.0] * 3,
            head=Head(features.out_channels, places.num_anchors_per_location(), classes + 1),
            detections_per_img=DETECTIONS,
        ).to(memory_format=torch.channels_last)  # steps on a CPU take a third less time

    def forward(self, images: Tensor, targets: list[Boxes] | None = None) -> Tensor | list[Boxes]:
        """The loss of images [n, 3, h, w] with their boxes; without boxes, the detections."""
        pixels = list(self.pixels(images))
        if targets is None:
            return [d | {"labels": d["labels"] - 1} for d in self.ssd(pixels)]
        # label 0: no object
        shifted = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]
        losses = self.ssd(pixels, shifted)
        return losses["bbox_regression"] + losses["classification"]


class Head(SSDHead):
    """SSD's head, with outputs in float32 or wider: bfloat16 would move boxes by pixels."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Logits and encoded boxes."""
        outputs = super().forward(x)
        return {k: v.to(torch.promote_types(v.dtype, torch.float32)) for k, v in outputs.items()}


class DefaultBoxes(DefaultBoxGenerator):
    """SSD's default boxes, in float32 or wider."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The boxes of every image, as x1 y1 x2 y2."""
        wide = torch.promote_types(feature_maps[0].dtype, torch.float32)
        shapes = [x[:1, :1].to(wide) for x in feature_maps]  # only the shapes are used
        return super().forward(image_list, shapes)


class Features(nn.Module):
    """VGG's last map of stride 8, its map of stride 16 after two more layers, and extra maps."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        narrow = lambda channels: round(layout.width * channels)
        plan = [c if isinstance(c, str) else narrow(c) for c in cfgs[layout.vgg]]
        layers = make_layers(plan, batch_norm=True)
        pools = [(i, x) for i, x in enumerate(layers) if isinstance(x, nn.MaxPool2d)]
        pools[2][1].ceil_mode = True  # 300 pixels are 38 cells, as published, and not 37
        cut = pools[3][0]
        self.fine, self.coarse = layers[:cut], layers[cut:-1]  # the last pooling is different here
        last, wide = narrow(512), narrow(1024)
        self.middle = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            *Conv2dNormActivation(last, wide, 3, dilation=layout.dilation),
            *Conv2dNormActivation(wide, wide, 1),
        )
        outputs, self.extras = [wide], nn.ModuleList()
        for hidden, channels, stride, padding in layout.extras:
            reduced = Conv2dNormActivation(outputs[-1], narrow(hidden), 1)
            grown = Conv2dNormActivation(narrow(hidden), narrow(channels), 3, stride, padding)
            self.extras.append(nn.Sequential(*reduced, *grown))
            outputs.append(narrow(channels))
        self.out_channels = [last, *outputs]
        kaiming(self)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Feature maps, the finest first."""
        x = x.contiguous(memory_format=torch.channels_last)
        first = self.fine(x)
        maps = [first, self.middle(self.coarse(first))]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return OrderedDict((str(i), x) for i, x in enumerate(maps))
