"""What detectors have in common: pixels in, boxes out."""

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Colours 0 to 255, as bytes or not, with the mean and deviation of ImageNet's taken out.

    In the model, and not where batches are loaded, since bytes travel to a GPU four times as fast
    as floats.

    >>> Pixels()(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist()
    [2.2489..., 2.4285..., 2.64...]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (
            ("mean", (0.485, 0.456, 0.406)),
            ("deviation", (0.229, 0.224, 0.225)),
        ):
            scaled = 255 * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, scaled, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, h, w] in the precision of this module."""
        return (images.to(self.mean.dtype) - self.mean) / self.deviation
