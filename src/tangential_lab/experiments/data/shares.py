"""A batch that processes share, whole again: for losses that are no sum over their shares."""

import torch
import torch.distributed as dist
from torch import Tensor


def of_all(share: Tensor) -> Tensor:
    """The rows of all processes, in order; of as many on each.

    Averaged over processes, the gradients are then those of the whole batch: every process has the
    whole loss, whose gradient passes it through its own rows only, as many times as there are
    processes.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return share
    count, rank = dist.get_world_size(), dist.get_rank()
    shares = [torch.empty_like(share) for _ in range(count)]
    dist.all_gather(shares, share.detach().contiguous())
    shares[rank] = share + (count - 1) * (share - share.detach())
    return torch.cat(shares)
