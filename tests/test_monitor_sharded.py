"""A sharded model's numbers are those of the whole: squares are added up, then roots are taken."""

import json

import pytest
import torch
from together import together

WORKER = """
import json
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh
from tangential import AdamP, Monitor, SGDP

how, builds = sys.argv[1:]
mesh = init_device_mesh("cpu", (processes,))
BUILDS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "AdamP": lambda p: AdamP(p, lr=1e-2, weight_decay=1e-2, foreach=True),
    "SGDP": lambda p: SGDP(p, lr=1e-2, momentum=0.9, weight_decay=1e-2, foreach=False),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=1e-2, foreach=False),
}

def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.LayerNorm(3)
    ).double()
    if how == "fsdp":
        fully_shard(model, mesh=mesh)
    elif how == "columns":  # rows are split: their products must travel before any root
        for module in model:
            for name, p in list(module.named_parameters()):
                place = [Shard(1) if p.dim() > 1 else Replicate()]
                sharded = nn.Parameter(distribute_tensor(p.detach(), mesh, place))
                module.register_parameter(name, sharded)
    return model

def log(build):
    model, logged = net(), []
    optimizer = BUILDS[build](model.parameters())
    with Monitor(model, optimizer, 1, lambda v, s: logged.append(v), weights=True):
        generator = torch.Generator().manual_seed(1)
        for _ in range(4):
            x, y = (torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (6, 3))
            if how == "columns":
                x = distribute_tensor(x, mesh, [Replicate()])
                y = distribute_tensor(y, mesh, [Replicate()])
            optimizer.zero_grad()
            (model(x) * y).sum().backward()
            optimizer.step()
    return logged

found = {build: log(build) for build in builds.split(",")}
if rank == 0:
    print(json.dumps(found))
"""


def run(how, build, processes):
    return json.loads(together(WORKER, how, build, processes=processes)[0])


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_sharded_numbers_are_those_of_the_whole():
    builds = ["AdamW", "SGD", "AdamP", "SGDP"]
    whole = run("whole", ",".join(builds), processes=1)
    for how in ("fsdp", "columns"):
        sharded = run(how, ",".join(builds), processes=2)
        for build in builds:
            assert len(whole[build]) == 4
            assert whole[build][3]["0.weight/norm"] > 0
            for ours, theirs in zip(sharded[build], whole[build], strict=True):
                close = pytest.approx(theirs, rel=1e-9, abs=1e-12, nan_ok=True)
                assert ours == close, (build, how)
