"""Four processes with a mesh of two by two, for tests of sharded weights."""

import json

from processes import together

START = """
import json
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from tangential import AdamP, SGDP
from tangential.backends import foreach as batched, sharded

line = init_device_mesh("cpu", (4,), mesh_dim_names=("all",))
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
CLASSES = {"AdamP": AdamP, "SGDP": SGDP}
found = {}

def spread(x, how):
    # one axis over four processes, or two axes over two each
    if how == "both":
        return distribute_tensor(x.detach(), mesh, [Shard(0), Shard(1)])
    if how == "strided":  # as FSDP2 shards what is column-parallel
        from torch.distributed.tensor import _StridedShard
        return distribute_tensor(x.detach(), mesh, [_StridedShard(0, split_factor=2), Shard(0)])
    return distribute_tensor(x.detach(), line, [Shard(int(how))])

def net(parallel, dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 12), nn.Tanh(),
        nn.Linear(12, 4, bias=False),
    ).to(dtype)
    if parallel:
        parallelize_module(model, mesh["tp"], {"3": ColwiseParallel(), "5": RowwiseParallel()})
        for module in model:
            if list(module.parameters()):
                fully_shard(module, mesh=mesh["dp"])
        fully_shard(model, mesh=mesh["dp"])
    return model

def data(t):
    generator = torch.Generator().manual_seed(t)
    return [torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (6, 4)]

def backward(model, t):
    x, y = data(t)
    model.zero_grad()
    (model(x) * y).sum().backward()

def difference(ours, plain):
    return max(
        ((p.full_tensor() if hasattr(p, "full_tensor") else p) - q).abs().max().item()
        for p, q in zip(ours, plain, strict=True)
    )
"""
END = """
if rank == 0:
    print(json.dumps(found))
"""


def run_on_mesh(script, *arguments):
    """What the first process of four has written into `found`."""
    return json.loads(together(START + script + END, *arguments, processes=4)[0])
