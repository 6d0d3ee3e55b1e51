"""Sharded is unsharded, state of rules included: FSDP2, tensor parallelism, absent gradients."""

import json

import pytest
import torch
from meshes import run_on_mesh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]

NETS = """
from tangential import project
from tangential.radial import brake

def whole_of(x):
    return x.full_tensor() if hasattr(x, "full_tensor") else torch.as_tensor(x)

def state_difference(ours, plain):
    states = [optimizer.state_dict()["state"] for optimizer in (ours, plain)]
    assert states[0].keys() == states[1].keys()
    worst = 0.0
    for one, other in zip(states[0].values(), states[1].values()):
        assert one.keys() == other.keys()
        for name, x in one.items():
            assert whole_of(x).shape == other[name].shape, (name, x, other[name])
            worst = max(worst, (whole_of(x) - other[name]).abs().max().item())
    return worst

for options in json.loads(sys.argv[1]):
    whole, split = net(False), net(True)
    usual = dict(weight_decay=0.1, **options)
    optimizers = [
        project(torch.optim.Adam(m.parameters(), lr=0.05), **usual) for m in (split, whole)
    ]
    for t in range(5):
        for model, optimizer in zip((split, whole), optimizers):
            backward(model, t)
            optimizer.step()
    errors = difference(split.parameters(), whole.parameters()), state_difference(*optimizers)
    found[str(options)] = max(errors)
"""
OPTIONS = [
    {},
    {"latch": 2},
    {"row_axis": 1},
    {"projection": "row", "radial": "rotational"},
    {"projection": "row", "radial": "fixed_norm", "row_groups": 4},
    {"projection": "weight", "radial": "bounded_norm"},
    {"projection": "row", "radial": "target_norm", "row_axis": 1},
    {"radial": "brake"},
]


def test_tensor_parallel_layers_under_fsdp2_are_the_unsharded_ones():
    found = run_on_mesh(NETS, json.dumps(OPTIONS))
    assert len(found) == len(OPTIONS)
    assert {name: error for name, error in found.items() if not error < 1e-12} == {}


LOADED = """
import copy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict,
)
from tangential import project

def trained(model, optimizer, steps):
    for t in steps:
        backward(model, t)
        optimizer.step()

def projected(model):
    adam = torch.optim.Adam(model.parameters(), lr=0.05)
    return project(adam, weight_decay=0.1, projection="row", radial="rotational")

for dtype in (torch.float64, torch.bfloat16):
    torch.manual_seed(0)
    models = [net(True, dtype) for _ in range(2)]
    if dtype == torch.bfloat16:
        data = lambda t, data=data: [x.bfloat16() for x in data(t)]
    whole, first = map(projected, models)
    trained(models[0], whole, range(6))
    trained(models[1], first, range(3))
    for full in (False, True):
        resumed = net(True, dtype)
        resumed.load_state_dict(copy.deepcopy(models[1].state_dict()))
        second, options = projected(resumed), StateDictOptions(full_state_dict=full)
        saved = get_optimizer_state_dict(models[1], first, options=options)
        set_optimizer_state_dict(resumed, second, copy.deepcopy(saved), options=options)
        trained(resumed, second, range(3, 6))
        weights = [[p.full_tensor() for p in m.parameters()] for m in (resumed, models[0])]
        found[f"{dtype} {full}"] = difference(*weights)
"""


def test_a_run_resumed_through_distributed_checkpoints():
    found = run_on_mesh(LOADED)
    assert len(found) == 4
    assert {name: error for name, error in found.items() if error} == {}


ABSENT = """
from tangential import project

for radial in ("remove", "brake"):
    torch.manual_seed(0)
    w = torch.randn(8, 6, dtype=torch.float64)
    q, p = nn.Parameter(w.clone()), nn.Parameter(spread(w, "0"))
    ours, plain = (project(torch.optim.SGD([x], lr=0.05), radial=radial) for x in (p, q))
    for t in range(4):
        g = torch.randn(8, 6, dtype=torch.float64)
        g = g - (g * q.detach()).sum(1, True) / (q.detach() ** 2).sum(1, True) * q.detach()
        g[2 * (t % 4) : 2 * (t % 4) + 2] = 0
        q.grad, p.grad = g, spread(g, "0")
        if t % 4 == rank:  # its rows have a gradient of 0
            p.grad = None
        ours.step(), plain.step()
    found[radial] = difference([p], [q])
"""


def test_a_process_without_a_gradient_still_sends_its_sums():
    found = run_on_mesh(ABSENT)
    assert {name: error for name, error in found.items() if not error < 1e-12} == {}
