"""Losses and scores that several experiments share."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]  # inputs [n, ...]; labels [n, ...], or shares of classes [n, classes]


def classification_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The cross-entropy of a batch."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels)


def predict(model: nn.Module, batch: Batch) -> Batch:
    """The model's outputs [n, ...], such as logits, and the labels."""
    inputs, labels = batch
    return model(inputs).float().cpu(), labels.cpu()


def joined(predictions: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """The predictions of all batches as one."""
    return [torch.cat(parts) for parts in zip(*predictions, strict=True)]


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of the rows of logits or probabilities [n, classes] that are highest at the label."""
    return (outputs.argmax(1) == labels).float().mean().item()


def classification_scores(predictions: list[Batch]) -> dict[str, float]:
    """The accuracy and the cross-entropy."""
    logits, labels = joined(predictions)
    return {"accuracy": accuracy(logits, labels), "loss": F.cross_entropy(logits, labels).item()}


CLASSIFICATION: dict[str, Any] = {
    "loss": classification_loss,
    "predict": predict,
    "score": classification_scores,
}


def whole_batch(share: Tensor) -> Tensor:
    """The rows of all processes, in order, for losses that are not a mean over rows.

    Every process must have the same number of rows. Each then computes the loss of the whole
    batch, whose gradient reaches only its own rows; they are scaled by the number of processes,
    so that the mean of the gradients over the processes is the gradient of the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return share
    count, rank = dist.get_world_size(), dist.get_rank()
    shares = [torch.empty_like(share) for _ in range(count)]
    dist.all_gather(shares, share.detach().contiguous())
    shares[rank] = share + (count - 1) * (share - share.detach())
    return torch.cat(shares)
