"""Train sharded weights with FSDP2: `torchrun --standalone --nproc-per-node 2 fsdp2_digits.py`."""

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import init_device_mesh

from tangential import AdamP, audit, param_groups

BATCH, EPOCHS, LR = 64, 5, 3e-3


def network() -> nn.Sequential:
    """Layers without bias before LayerNorm: each weight is scale-invariant as a whole."""
    return nn.Sequential(
        *(nn.Linear(64, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        *(nn.Linear(128, 128, bias=False), nn.LayerNorm(128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def main() -> float:
    """Train on all processes; return the test accuracy."""
    torch.manual_seed(0)  # the same weights and the same order of the data in every process
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    images, labels = (torch.tensor(x, device=device) for x in load_digits(return_X_y=True))
    images = (images / 16).float()
    model = network()
    found = audit(model, images[:192].cpu().split(64))  # of the whole weights, before sharding
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # the optimizer gets the sharded weights; it completes the sums of a row across processes
    optimizer = AdamP(param_groups(model, found), lr=LR, weight_decay=1e-2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(1408).split(BATCH):
            mine = batch.chunk(mesh.size())[mesh.get_rank()]  # FSDP2 averages the gradients
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[mine]), labels[mine]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(images[1437:]).argmax(-1) == labels[1437:]).float().mean())


if __name__ == "__main__":
    if not dist.is_torchelastic_launched():
        sys.exit(f"Start it with torchrun --standalone --nproc-per-node 2 {sys.argv[0]}")
    dist.init_process_group()  # gloo for weights on the CPU, NCCL for those on GPUs
    accuracy = main()
    if dist.get_rank() == 0:
        print(f"test accuracy {accuracy:.1%}")
    dist.destroy_process_group()
