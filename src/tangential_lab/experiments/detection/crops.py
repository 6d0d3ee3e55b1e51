"""Crops, flips and colours of photographs with boxes, for training.

Each function returns a change of a pair (image, {"boxes", "labels"}), in torchvision's types.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

Size = tuple[int, int]  # height and width
Change = Callable[[Any, dict[str, Tensor]], tuple[Any, dict[str, Tensor]]]

# of CenterNet's window, relative to the whole image
SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
GROUND = (124, 116, 104)  # ImageNet's mean colour
COLOURS = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
SANITIZED = v2.SanitizeBoundingBoxes(min_size=1.0)  # drops boxes with a side below a pixel


class Window(v2.Transform):
    """Crop a window and resize it to `size`; outside the image the window is black.

    The window has the shape of `size`, so that nothing is stretched.

    Args:
        size: Height and width of the result.
        scales: Sizes of the window to draw from; 1 just contains the whole image.
        border: Distance in pixels of the window's centre from the image's edges, halved until it
            fits into the image; None puts the window at the image's centre.
    """

    def __init__(
        self, size: Size, scales: tuple[float, ...] = (1.0,), border: int | None = None
    ) -> None:
        super().__init__()
        self.size, self.scales, self.border = size, scales, border

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Top, left, height and width of the window."""
        height, width = v2.functional.get_size(flat_inputs[0])
        scale = self.scales[int(torch.randint(len(self.scales), ()))]
        pixels = scale * max(height / self.size[0], width / self.size[1])  # per pixel of the result
        sides = [round(pixels * side) for side in self.size]
        centre = [self._centre(length) for length in (height, width)]
        corner = [round(c - side / 2) for c, side in zip(centre, sides, strict=True)]
        return dict(zip(("top", "left", "height", "width"), corner + sides, strict=True))

    def _centre(self, length: int) -> float:
        if self.border is None:
            return length / 2
        border = self.border
        while 2 * border >= length:
            border //= 2
        return int(torch.randint(border, length - border, ()))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The window of an image, or of its boxes, which are clipped to the window."""
        return self._call_kernel(v2.functional.resized_crop, inpt, **params, size=list(self.size))


def centernet_training(size: Size, border: int = 128) -> Change:
    """Random flip, window and colours, as published except for colour shifts of 3 in 255."""
    window = Window(size, SCALES, border)
    return v2.Compose([v2.RandomHorizontalFlip(), window, COLOURS, SANITIZED])


def ssd_training(size: Size) -> Change:
    """Random colours, zoom out, crop by overlap and flip, as torchvision trains its SSD."""
    return v2.Compose([v2.RandomPhotometricDistort(), *_ssd_cuts(size, 4.0), SANITIZED])


def quick_ssd_training(size: Size, zoom: float) -> Change:
    """The same with less zoom, and with CenterNet's colours, applied to the smaller crop."""
    return v2.Compose([*_ssd_cuts(size, zoom), COLOURS, SANITIZED])


def _ssd_cuts(size: Size, zoom: float) -> list[v2.Transform]:
    zoom_out = v2.RandomZoomOut(GROUND, (1.0, zoom))
    return [zoom_out, v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), v2.Resize(size)]
