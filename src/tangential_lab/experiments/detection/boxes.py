"""Photographs with boxes, and average precision: how well boxes were detected."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from tangential_lab.experiments.data.photographs import DEVIATION, MEAN
from tangential_lab.experiments.data.sources import Arrays
from tangential_lab.experiments.detection.crops import Change

# "boxes" [m, 4] as x1 y1 x2 y2 in pixels and "labels" [m]; "scores" [m] of detections; "iscrowd"
# [m] of true boxes: 1 if the box holds many objects
Boxes = dict[str, Tensor]
Prediction = tuple[list[Boxes], list[Boxes]]  # the detections of a batch, and the true boxes


@dataclass(frozen=True)
class Boxed:
    """A split of photographs with boxes: batches of images uint8 [n, 3, h, w] and n targets.

    Args:
        image: Returns the image uint8 [3, h, w] of a photograph's number.
        arrays: Of the whole data set: "boxes" [m, 4] in pixels of that image, "labels" [m],
            "crowds" [m] (whether a box holds many objects), and "starts": the index of the first
            box of each photograph, and the number of boxes.
        numbers: The photographs of this split.
        change: Function of image and boxes that makes all images the same size.
        crowded: Keep boxes that hold many objects; training does not use them.
    """

    image: Callable[[int], Tensor]
    arrays: Arrays
    numbers: np.ndarray
    change: Change | None = None
    crowded: bool = True

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitems__(self, indices: list[int], /) -> tuple[Tensor, list[Boxes]]:
        pairs = [self._original(int(self.numbers[i])) for i in indices]
        if self.change is not None:
            pairs = [self.change(*pair) for pair in pairs]
        images, targets = zip(*pairs, strict=True)
        plain = lambda x: x.as_subclass(Tensor)
        return torch.stack([plain(x) for x in images]), [
            {name: plain(x) for name, x in target.items()} for target in targets
        ]

    def only(self, indices: np.ndarray) -> "Boxed":
        """The photographs with these indices."""
        return replace(self, numbers=self.numbers[indices])

    def _original(self, number: int) -> tuple[Any, Boxes]:
        image = tv_tensors.Image(self.image(number))
        rows = np.arange(*self.arrays["starts"][number : number + 2])
        if not self.crowded:
            rows = rows[~self.arrays["crowds"][rows]]
        boxes, labels, crowds = (
            torch.tensor(self.arrays[name][rows]) for name in ("boxes", "labels", "crowds")
        )
        height, width = image.shape[-2:]
        boxes = tv_tensors.BoundingBoxes(
            boxes,  # pyright: ignore[reportCallIssue]
            format="XYXY",
            canvas_size=(height, width),
        )
        crowd = {"iscrowd": crowds.long()} if self.crowded else {}
        return image, {"boxes": boxes, "labels": labels, **crowd}


class Pixels(nn.Module):
    """Subtract ImageNet's mean colour from colours 0 to 255 and divide by the deviation.

    This is a part of the model, not of the loaders: bytes travel to a GPU four times as fast as
    floats.

    >>> Pixels()(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist()
    [2.2489..., 2.4285..., 2.64...]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            scaled = 255 * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, scaled, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, h, w] in the precision of this module."""
        return (images.to(self.mean.dtype) - self.mean) / self.deviation


def average_precision(
    predictions: list[Prediction], classes: tuple[str, ...] = ()
) -> dict[str, float]:
    """COCO's average precision (AP), AP at an overlap of .5 (AP50), and AP50 of each class.

    Boxes are compared at the size the model saw: overlap does not depend on scale.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(
        backend="faster_coco_eval",
        extended_summary=bool(classes),
        sync_on_compute=False,  # every process has all predictions
    )
    for detections, truth in predictions:
        metric.update(detections, truth)
    result = metric.compute()
    scores = {"AP": result["map"].item(), "AP50": result["map_50"].item()}
    if classes:
        # [overlaps, recalls, classes, areas, numbers of detections]: .5, all areas, 100 detections
        precision = result["precision"][0, :, :, 0, -1].mean(0)
        labels = result["classes"].reshape(-1).tolist()  # torchmetrics makes one class a scalar
        for label, value in zip(labels, precision.tolist(), strict=True):
            if value >= 0:  # otherwise the class has no box
                scores[f"AP50 {classes[label]}"] = value
    return scores
