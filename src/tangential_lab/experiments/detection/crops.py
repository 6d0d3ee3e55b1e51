"""What is done to photographs with boxes before a detector sees them, by chance or not.

Each function returns a change of a pair (image, {"boxes", "labels"}), in torchvision's types.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

Size = tuple[int, int]  # height and width
Change = Callable[[Any, dict[str, Tensor]], tuple[Any, dict[str, Tensor]]]

SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)  # of CenterNet's window to what shows everything
JITTER = 0.4  # of brightness, contrast and saturation
GROUND = (124, 116, 104)  # ImageNet's mean colour
SMALLEST = 1.0  # pixels of a side, below which a box is dropped


class Window(v2.Transform):
    """A part of the image, or more than the image with black around it, resized to `size`.

    It has the shape of `size`, so that nothing is stretched.

    Args:
        size: Of what comes out.
        scales: The window's size, drawn from these; 1 just shows the whole image.
        border: Pixels of the image near its edges where the window's centre is not; None puts it
            on the image's centre. Halved until an image has room for it.
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
        pixels = scale * max(height / self.size[0], width / self.size[1])  # to one that comes out
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
        """The window of an image, or its boxes, cut off at the window's edges."""
        return self._call_kernel(v2.functional.resized_crop, inpt, **params, size=list(self.size))


def centernet_training(size: Size, border: int = 128) -> Change:
    """Flip, window and colours by chance, as published but for shifts of colour by 3 of 255."""
    window = Window(size, SCALES, border)
    return v2.Compose([v2.RandomHorizontalFlip(), window, _jitter(), _sanitized()])


def ssd_training(size: Size) -> Change:
    """Colours, zoom out, crop by overlap and flip by chance, as torchvision trains its SSD."""
    return v2.Compose([v2.RandomPhotometricDistort(), *_ssd_cuts(size, 4.0), _sanitized()])


def quick_ssd_training(size: Size, zoom: float) -> Change:
    """The same with less of a zoom, and with CenterNet's colours, on what is left of the image."""
    return v2.Compose([*_ssd_cuts(size, zoom), _jitter(), _sanitized()])


def _ssd_cuts(size: Size, zoom: float) -> list[v2.Transform]:
    return [
        v2.RandomZoomOut(GROUND, (1.0, zoom)),
        v2.RandomIoUCrop(),
        v2.RandomHorizontalFlip(),
        v2.Resize(size),
    ]


def _jitter() -> v2.Transform:
    return v2.ColorJitter(JITTER, JITTER, JITTER)


def _sanitized() -> v2.Transform:
    return v2.SanitizeBoundingBoxes(SMALLEST)


def centernet_evaluation(size: Size) -> Change:
    """The whole image, with black beside it where its shape is another."""
    return Window(size)


def ssd_evaluation(size: Size) -> Change:
    """The whole image, stretched where its shape is another."""
    return v2.Resize(size)
