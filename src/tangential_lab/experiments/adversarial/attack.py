"""Adversarial images by projected gradient descent (Madry et al. 2017, arXiv:1706.06083)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 10
AXES = (1, 2, 3)  # of an image in a batch [n, channels, height, width]
TINY = 1e-12  # an image whose gradient is zero stays unchanged


class Attack(NamedTuple):
    """Ten steps that raise the loss; each is followed by a projection onto the allowed images.

    An attacked image is within `radius` of its original in `norm`, and its pixels are in [0, 1].
    """

    norm: Literal["linf", "l2"]
    radius: float
    size: float  # of a step: the change of each pixel if `step` is "sign", else the l2 length
    step: Literal["sign", "gradient"] = "sign"

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, random_start: bool
    ) -> Tensor:
        """Attacked images [n, channels, h, w]. The model is in evaluation mode and does not change.

        Args:
            model: Returns logits [n, classes] of images. It must not wait for other processes, as
                DistributedDataParallel does: pass the model that it wraps.
            images: [n, channels, h, w], from 0 to 1.
            labels: [n], the right classes.
            random_start: Start from a random point of the ball, not from the images.
        """
        attacked = images
        if random_start:
            noise = 2 * torch.rand_like(images) - 1
            attacked = self.inside(images + self.radius * noise, images)
        with _evaluating(model), torch.enable_grad():
            for _ in range(STEPS):
                attacked = attacked.detach().requires_grad_()
                # a sum: in float16 the mean's gradients could vanish
                loss = F.cross_entropy(model(attacked), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, attacked)
                if self.step == "sign":
                    direction = gradient.sign()
                else:
                    direction = gradient / _length(gradient).clamp(min=TINY)
                attacked = self.inside(attacked.detach() + self.size * direction, images)
        return attacked

    def inside(self, moved: Tensor, images: Tensor) -> Tensor:
        """Project onto the ball around the images, then clamp to [0, 1]."""
        change = moved - images
        if self.norm == "linf":
            change = change.clamp(-self.radius, self.radius)
        else:
            change = change * (self.radius / _length(change).clamp(min=self.radius))
        return (images + change).clamp(0, 1)


def _length(change: Tensor) -> Tensor:
    return torch.linalg.vector_norm(change, dim=AXES, keepdim=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module has its former mode (some may be frozen)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
