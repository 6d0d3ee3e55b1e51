"""Photographs with boxes, and how well boxes were found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from tangential_lab.experiments.detection.crops import Change

# "boxes" [m, 4] as x1 y1 x2 y2 in pixels and "labels" [m]; "scores" [m] of what is detected,
# "iscrowd" [m] of what is there and holds many objects
Boxes = dict[str, Tensor]
Prediction = tuple[list[Boxes], list[Boxes]]  # what was detected in a batch, and what is there


def unchanged(image: Any, target: Boxes) -> tuple[Any, Boxes]:
    """Image and boxes as they are."""
    return image, target


@dataclass(frozen=True)
class Boxed:
    """A split of photographs with boxes: batches of images uint8 [n, 3, h, w] and n targets.

    Args:
        image: Makes an image uint8 [3, h, w] of a photograph's number.
        boxes: All photographs' boxes [m, 4], in pixels of that image.
        labels: All boxes' classes [m].
        crowds: Whether a box holds many objects [m].
        starts: Where each photograph's boxes start, and the last one's end.
        numbers: The photographs of this split.
        change: What is done to image and boxes; images have the same size afterwards.
        crowded: Show boxes that hold many objects; training has no use for them.
    """

    image: Callable[[int], Tensor]
    boxes: np.ndarray
    labels: np.ndarray
    crowds: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    change: Change = unchanged
    crowded: bool = True

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.numbers)

    def __getitems__(self, indices: list[int], /) -> tuple[Tensor, list[Boxes]]:
        """The batch of these photographs."""
        pairs = [self.change(*self._original(int(self.numbers[i]))) for i in indices]
        images, targets = zip(*pairs, strict=True)
        plain = lambda x: x.as_subclass(Tensor)
        return torch.stack([plain(x) for x in images]), [
            {name: plain(x) for name, x in target.items()} for target in targets
        ]

    def only(self, indices: np.ndarray, **changes: Any) -> "Boxed":
        """Some of the photographs."""
        return replace(self, numbers=self.numbers[indices], **changes)

    def _original(self, number: int) -> tuple[Any, Boxes]:
        image = tv_tensors.Image(self.image(number))
        own = slice(*self.starts[number : number + 2])
        kept = slice(None) if self.crowded else ~self.crowds[own]
        boxes, labels, crowds = (
            torch.tensor(x[own][kept]) for x in (self.boxes, self.labels, self.crowds)
        )
        height, width = image.shape[-2:]
        shown = tv_tensors.BoundingBoxes(
            boxes,  # pyright: ignore[reportCallIssue]
            format="XYXY",
            canvas_size=(height, width),
        )
        crowd = {"iscrowd": crowds.long()} if self.crowded else {}
        return image, {"boxes": shown, "labels": labels, **crowd}


def average_precision(
    predictions: list[Prediction], classes: tuple[str, ...] = ()
) -> dict[str, float]:
    """COCO's average precision (AP), that at an overlap of .5 (AP50), and AP50 of each class.

    Boxes are compared as the model saw the images: overlap does not change with scale.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(
        backend="faster_coco_eval",
        extended_summary=bool(classes),
        sync_on_compute=False,  # every process has all predictions
    )
    for detections, truth in predictions:
        metric.update(detections, truth)
    found = metric.compute()
    each = {}
    if classes:
        # [overlaps, recalls, classes, areas, numbers of detections]: .5, all areas, 100 detections
        precision = found["precision"][0, :, :, 0, -1].mean(0)
        labels = found["classes"].reshape(-1).tolist()  # of one class torchmetrics makes a scalar
        each = {
            f"AP50 {classes[label]}": value
            for label, value in zip(labels, precision.tolist(), strict=True)
            if value >= 0  # else the class has no box
        }
    return {"AP": found["map"].item(), "AP50": found["map_50"].item(), **each}
