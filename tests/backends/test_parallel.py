"""Four processes: tensor parallelism under FSDP2, split units, absent gradients."""

import json

import pytest
import torch
from meshes import run_on_mesh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]

TENSOR_PARALLEL = """
for name, options in json.loads(sys.argv[1]):
    for foreach in (False, True):
        whole, split = net(False), net(True)
        usual = dict(lr=0.05, weight_decay=0.1, foreach=foreach, **options)
        optimizers = [CLASSES[name](m.parameters(), **usual) for m in (split, whole)]
        for t in range(5):
            for model, optimizer in zip((split, whole), optimizers):
                backward(model, t)
                optimizer.step()
        error = difference(split.parameters(), whole.parameters())
        found[f"{name} {options} {foreach}"] = error
found["placements"] = str(split[3].weight.placements)
"""
OPTIONS = [
    ("AdamP", {}),
    ("AdamP", {"projection": "row"}),
    ("AdamP", {"projection": "weight"}),
    ("AdamP", {"row_axis": 1}),
    ("AdamP", {"row_groups": 4, "caution": True}),
    ("SGDP", {"momentum": 0.9}),
    ("SGDP", {"momentum": 0.9, "projection": "row", "nesterov": True}),
    ("SGDP", {"momentum": 0.9, "projection": "weight", "project_buffer": True}),
]


def test_tensor_parallel_layers_under_fsdp2_are_the_unsharded_ones():
    found = run_on_mesh(TENSOR_PARALLEL, json.dumps(OPTIONS))
    assert "StridedShard" in found.pop("placements")
    assert len(found) == 2 * len(OPTIONS)
    assert {name: error for name, error in found.items() if not error < 1e-12} == {}


SPLIT_UNITS = """
for shape, how, options in json.loads(sys.argv[1]):
    for foreach in (False, True):
        torch.manual_seed(0)
        w = torch.randn(shape, dtype=torch.float64)
        q, p = nn.Parameter(w.clone()), nn.Parameter(spread(w, how))
        usual = dict(lr=0.05, weight_decay=0.1, foreach=foreach, **options)
        ours, plain = AdamP([p], **usual), AdamP([q], **usual)
        for t in range(6):
            g = torch.randn(shape, dtype=torch.float64)
            if t % 2:  # orthogonal to the weight in every unit, so that the gate fires
                k = options.get("row_groups", 1)
                rows, g = (x.movedim(options.get("row_axis", 0), 0) for x in (q.detach(), g))
                moved = rows.shape
                rows, g = (x.reshape(moved[0] // k, -1) for x in (rows, g))
                g = g - (g * rows).sum(1, True) / (rows * rows).sum(1, True) * rows
                g = g.view(moved).movedim(0, options.get("row_axis", 0)).contiguous()
            q.grad, p.grad = g, spread(g, how)
            ours.step(), plain.step()
        found[f"{shape} {how} {options} {foreach}"] = difference([p], [q])
"""
SPLIT = [
    ((6, 5), "0", {"row_groups": 3}),
    ((12, 5), "0", {"row_groups": 4}),  # three heads on four processes
    ((6, 5), "0", {"row_groups": 6}),
    ((5, 3), "0", {"row_groups": 5}),  # uneven, and a process without rows
    ((2, 9), "0", {"row_groups": 2}),
    ((9, 6), "1", {"row_groups": 3}),
    ((3, 10), "1", {"row_axis": 1, "row_groups": 5}),
    ((3, 10, 2), "1", {"row_axis": -2, "row_groups": 2, "caution": True}),
    ((6, 7), "both", {"row_groups": 2}),
    ((12, 5), "strided", {"row_groups": 6}),
    ((12, 5), "strided", {"row_groups": 4, "projection": "row"}),
    ((12, 5), "strided", {}),
    ((10, 3), "0", {"row_groups": 5, "projection": "row"}),
]


def test_units_may_be_split_between_processes():
    found = run_on_mesh(SPLIT_UNITS, json.dumps(SPLIT))
    assert len(found) == 2 * len(SPLIT)
    assert {name: error for name, error in found.items() if not error < 1e-12} == {}


ABSENT = """
def gradient(t, w):
    g = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    return g - (g * w).sum(1, True) / (w * w).sum(1, True) * w  # the gate fires

for name, options in json.loads(sys.argv[1]):
    for foreach in (False, True, None):
        torch.manual_seed(0)
        values = [torch.randn(s, dtype=torch.float64) for s in ((8, 5), (8, 5), (8,))]
        whole = [nn.Parameter(v.clone()) for v in values]
        split = [nn.Parameter(spread(v, "0")) for v in values]
        other = nn.Parameter(torch.ones(4, 4, dtype=torch.float64))  # of this process alone
        usual = dict(lr=0.05, weight_decay=0.1, foreach=foreach, **options)
        ours = CLASSES[name]([split[0], other, *split[1:]], **usual)
        theirs = CLASSES[name](whole, **usual)
        errors = []
        for t in range(4):
            partial = t < 2  # only the first process has a gradient of the second weight and third
            other.grad = torch.ones(4, 4, dtype=torch.float64) if rank == t else None
            before = [q.detach().clone() for q in whole]
            for k, (p, q) in enumerate(zip(split, whole)):
                g = gradient(t, before[min(k, 1)])
                q.grad = (g if k < 2 else g[:, 0]).clone()
                if partial and k:
                    q.grad[2:] = 0
                p.grad = spread(q.grad, "0")
                if partial and k and rank:
                    p.grad = None
            ours.step(), theirs.step()
            if partial:  # as in torch.optim, shards without a gradient stay as they are
                for q, old in zip(whole[1:], before[1:]):
                    q.data[2:] = old[2:]
            # later steps of Adam correct for as many steps as a shard has taken
            errors.append(difference(split[:3 if partial else 1], whole[:3 if partial else 1]))
        found[f"{name} {options} {foreach}"] = errors
        if name == "AdamP":
            found["steps"] = [ours.state[p]["step"].item() for p in (*split, other)]
for p in split:
    p.grad = None
ours.step()  # no process has a gradient
"""
CASES = [
    ("AdamP", {}),
    ("AdamP", {"row_groups": 4}),
    ("AdamP", {"projection": "row", "caution": True}),
    ("SGDP", {"momentum": 0.9, "projection": "weight"}),
]


def test_a_gradient_on_only_one_process_moves_its_shard_and_nothing_hangs():
    found = run_on_mesh(ABSENT, json.dumps(CASES))
    assert found.pop("steps") == [4, 4, 4, 1]
    assert len(found) == 3 * len(CASES)
    assert {name: errors for name, errors in found.items() if not max(errors) < 1e-12} == {}
