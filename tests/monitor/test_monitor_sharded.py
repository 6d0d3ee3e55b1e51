"""A sharded model's numbers are those of the whole: squares are added up, then roots are taken."""

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
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh
from tangential import AdamP, Monitor, SGDP

how, builds = sys.argv[1:]
mesh = init_device_mesh("cpu", (processes,))

def units(params, **options):  # every matrix is one unit, split between processes
    groups = [{"params": [p], "row_groups": p.shape[0] if p.dim() > 1 else 1} for p in params]
    return AdamP(groups, lr=1e-2, **options)

BUILDS = {
    "units": lambda p: units(p, weight_decay=1e-2),
    "cautious units": lambda p: units(p, caution=True),
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
    if how in ("fsdp", "absent"):
        fully_shard(model, mesh=mesh)
    elif how == "columns":  # rows are split: products must be summed before any root
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
            if how == "absent" and rank:
                model[3].weight.grad = None
            optimizer.step()
    return logged

found = {build: log(build) for build in builds.split(",")}
if rank == 0:
    print(json.dumps(found))
"""


def run(how, build, processes):
    return json.loads(together(WORKER, how, build, processes=processes)[0])


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_sharded_numbers_equal_unsharded_ones():
    builds = ["AdamW", "SGD", "AdamP", "SGDP", "units", "cautious units"]
    whole = run("whole", ",".join(builds), processes=1)
    for how in ("fsdp", "columns"):
        sharded = run(how, ",".join(builds), processes=2)
        for build in builds:
            assert len(whole[build]) == 4
            assert whole[build][3]["0.weight/norm"] > 0
            for ours, theirs in zip(sharded[build], whole[build], strict=True):
                close = pytest.approx(theirs, rel=1e-9, abs=1e-12, nan_ok=True)
                assert ours == close, (build, how)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_gradient_on_one_process_does_not_block_the_others():
    logged = run("absent", "AdamW,AdamP", processes=2)
    whole = run("whole", "AdamW,AdamP", processes=1)
    for build in ("AdamW", "AdamP"):
        for name in ("3.weight/norm", "0.weight/cosine"):  # before a step
            assert logged[build][0][name] == pytest.approx(whole[build][0][name], rel=1e-9)
