"""What tasks that sort inputs into classes have in common: batches are inputs and labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]  # inputs [n, ...]; labels [n], or shares of the classes [n, classes]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """The cross-entropy of a batch."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels)


def predict(model: nn.Module, batch: Batch) -> Batch:
    """Logits [n, classes] and labels."""
    inputs, labels = batch
    return model(inputs).float().cpu(), labels.cpu()


def score(predictions: list[Batch]) -> dict[str, float]:
    """The share that is sorted rightly, and the cross-entropy."""
    logits, labels = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    return {
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
        "loss": F.cross_entropy(logits, labels).item(),
    }
