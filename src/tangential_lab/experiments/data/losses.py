"""Losses and scores that several experiments share."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]  # inputs [n, ...]; labels [n], or shares of the classes [n, classes]


def classification_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The cross-entropy of a batch."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels)


def predict_classes(model: nn.Module, batch: Batch) -> Batch:
    """Logits [n, classes] and labels."""
    inputs, labels = batch
    return model(inputs).float().cpu(), labels.cpu()


def classification_scores(predictions: list[Batch]) -> dict[str, float]:
    """The accuracy and the cross-entropy."""
    logits, labels = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    return {
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
        "loss": F.cross_entropy(logits, labels).item(),
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
