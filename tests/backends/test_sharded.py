"""Sharded is unsharded: two processes, rows or columns apart, an empty shard among them."""

import json

import pytest
import torch
from processes import together

pytestmark = pytest.mark.slow

WORKER = """
import json
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
from tangential import AdamP, SGDP

mesh = init_device_mesh("cpu", (2,))

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Conv2d(5, 1, 3, bias=False), nn.BatchNorm2d(1), nn.Flatten(),  # one row: an empty shard
        nn.Linear(16, 7),
    ).double()

def columns(x):
    return distribute_tensor(x.detach().clone(), mesh, [Shard(x.dim() - 1)])

def apart(cls, options, how):
    whole, split = net(), net()
    if how == "rows":
        for child in split.children():
            if list(child.parameters()):
                fully_shard(child, mesh=mesh)
        weights = list(fully_shard(split, mesh=mesh).parameters())
    else:
        weights = [nn.Parameter(columns(p)) for p in split.parameters()]
    usual = dict(lr=0.05, weight_decay=0.1, **options)
    ours, plain = cls(weights, **usual), cls(whole.parameters(), **usual)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        x, y = (
            torch.randn(8, *s, generator=generator, dtype=torch.float64) for s in ((3, 8, 8), (7,))
        )
        plain.zero_grad(), ours.zero_grad()
        (whole(x) * y).sum().backward()
        if how == "rows":
            (split(x) * y).sum().backward()
        for p, w in zip(weights, whole.parameters()):
            p.grad = columns(w.grad) if how == "columns" else p.grad
        ours.step(), plain.step()
    pairs = zip(weights, whole.parameters())
    return max((p.full_tensor() - w).abs().max().item() for p, w in pairs)

found = {}
for name, cls, options in json.loads(sys.argv[1]):
    for how in ("rows", "columns"):
        for foreach in (False, True):
            error = apart({"AdamP": AdamP, "SGDP": SGDP}[cls], {**options, "foreach": foreach}, how)
            found[f"{name} {how} {foreach}"] = error
from torch.distributed.tensor import DTensor, Partial
try:
    AdamP([nn.Parameter(DTensor.from_local(torch.ones(2, 6), mesh, [Partial()]))])
except ValueError as error:
    found["error"] = str(error)
if rank == 0:
    print(json.dumps(found))
"""
CASES = [
    ("AdamP", "AdamP", {}),
    ("AdamP by weight", "AdamP", {"projection": "weight"}),
    ("AdamP by row", "AdamP", {"projection": "row", "wd_ratio": "matched"}),
    ("caution", "AdamP", {"caution": True}),
    ("SGDP", "SGDP", {"momentum": 0.9, "nesterov": True}),
    ("published", "SGDP", {"momentum": 0.9, "project_buffer": True}),
]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_sharded_is_unsharded():
    found = json.loads(together(WORKER, json.dumps(CASES))[0])
    assert "expected Shard and Replicate" in found.pop("error")
    assert len(found) == 4 * len(CASES)
    assert {name: error for name, error in found.items() if not error < 1e-12} == {}
