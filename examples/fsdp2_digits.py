"""Train with sharded weights (FSDP2): torchrun --nproc-per-node 2 examples/fsdp2_digits.py."""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.fsdp import fully_shard

from tangential import AdamP

BATCH, EPOCHS, LR = 64, 5, 3e-3


def network() -> nn.Sequential:
    """Layers without bias before LayerNorm: each weight is scale-invariant as a whole."""
    return nn.Sequential(
        *(nn.Linear(64, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        *(nn.Linear(128, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def main() -> float:
    """Train; return the test accuracy, the same on every process."""
    torch.manual_seed(0)
    rank, processes = dist.get_rank(), dist.get_world_size()
    images, labels = (torch.tensor(x) for x in load_digits(return_X_y=True))
    images = (images / 16).float()
    model = network()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    # after sharding; each process steps its shards, and sums per row are exchanged
    optimizer = AdamP(model.parameters(), lr=LR, weight_decay=1e-2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(1408).split(BATCH):
            share = batch[rank::processes]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[share]), labels[share]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(images[1437:]).argmax(-1) == labels[1437:]).float().mean())


if __name__ == "__main__":
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo")
    accuracy = main()
    if dist.get_rank() == 0:
        print(f"test accuracy {accuracy:.1%}")
    dist.destroy_process_group()
