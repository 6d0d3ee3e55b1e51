"""An embedding on the sphere, and the loss that trains it, as one model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tangential_lab.experiments.data.losses import whole_batch
from tangential_lab.experiments.data.photographs import pretrained_weights

Criterion = Callable[[Tensor, Tensor], Tensor]  # of embeddings and labels; may be a module


class Embedder(nn.Module):
    """A trunk, a linear layer, and division by the l2 norm.

    Without bias the length of the layer's weight does not matter. A criterion that is a module is a
    part of the model, so that the optimizer gets its proxies.

    Args:
        trunk: Module from images to features [n, features].
        features: Number of features.
        size: Size of the embedding.
        criterion: Loss of the embeddings and labels of a whole batch.
        bias: Whether the layer has a bias, at first zero, as published.
        frozen: Whether the trunk's BatchNorms keep their statistics, scales and shifts.
        warm_up: Steps in which the trunk is not trained.

    Attributes:
        holds_weights: Whether some weights get no gradient in some steps.
    """

    steps: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        size: int,
        criterion: Criterion,
        *,
        bias: bool = False,
        frozen: bool = False,
        warm_up: int = 0,
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(features, size, bias=bias)
        nn.init.kaiming_normal_(self.head.weight, mode="fan_out")
        if bias:
            nn.init.zeros_(self.head.bias)
        self.criterion, self.frozen, self.warm_up = criterion, frozen, warm_up
        self.holds_weights = warm_up > 0
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for norm in self._frozen_norms():
            norm.requires_grad_(False)
        self.train()

    def _frozen_norms(self) -> list[nn.Module]:
        modules = self.trunk.modules() if self.frozen else ()
        return [module for module in modules if isinstance(module, _BatchNorm)]

    def train(self, mode: bool = True) -> "Embedder":
        """Training or evaluation mode; frozen BatchNorms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms():
            norm.eval()
        return self

    def forward(
        self, images: Tensor, labels: Tensor | None = None, *, warm: bool = False
    ) -> Tensor:
        """Embeddings [n, size] of length 1; with labels [n], their loss.

        Args:
            images: Input of the trunk.
            labels: Classes of this process's share of the batch.
            warm: Behave as after the warm-up, and do not count this step.
        """
        is_held = labels is not None and not warm and self._is_warm_up()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_held):
            features = self.trunk(images)
        embeddings = F.normalize(self.head(features))
        if labels is None:
            return embeddings
        # in half precision, the criterion would permanently convert its proxies
        embeddings = embeddings.float() if embeddings.dtype.itemsize < 4 else embeddings
        return self.criterion(whole_batch(embeddings), whole_batch(labels))

    def _is_warm_up(self) -> bool:
        if not (self.warm_up and self.training):
            return False
        self.steps += 1
        return bool(self.steps <= self.warm_up)


def resnet50(*, pretrained: bool) -> nn.Module:
    """ResNet-50 up to its 2,048 features: their mean and maximum over the image, added."""
    from torchvision import models

    net = models.resnet50()
    if pretrained:
        net.load_state_dict(pretrained_weights(models.ResNet50_Weights.IMAGENET1K_V1))
    net.register_module("avgpool", MeanAndMaximum())
    net.register_module("fc", nn.Identity())
    return net


class MeanAndMaximum(nn.Module):
    """The mean and the maximum over an image, added, as in the published code."""

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, channels, 1, 1]."""
        return x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)
