"""Four processes: tensor parallelism under FSDP2, split units, absent gradients, collectives."""

import json

import pytest
import torch
from together import together

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch without distributed"
)

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


def run(script, *arguments):
    return json.loads(together(START + script + END, *arguments, processes=4)[0])


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
    found = run(TENSOR_PARALLEL, json.dumps(OPTIONS))
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
    found = run(SPLIT_UNITS, json.dumps(SPLIT))
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


def test_a_gradient_on_one_process_alone_moves_its_shard_and_nothing_hangs():
    found = run(ABSENT, json.dumps(CASES))
    assert found.pop("steps") == [4, 4, 4, 1]
    assert len(found) == 3 * len(CASES)
    assert {name: errors for name, errors in found.items() if not max(errors) < 1e-12} == {}


COLLECTIVES = """
from torch.distributed.tensor.debug import CommDebugMode

def counted(optimizer):
    optimizer.step()
    with CommDebugMode() as counts:
        optimizer.step()
    return counts.get_total_counts()

def step(weights, cls="AdamP", **options):
    for p in weights:
        p.grad = torch.ones_like(p)
    groups = [{"params": weights[i::12]} for i in range(12)]
    return counted(CLASSES[cls](groups, lr=1e-3, **options))

weights = lambda how: [
    nn.Parameter(spread(torch.randn(8, 8), how)) for _ in range(24)
] + [nn.Parameter(spread(torch.randn(8), "0")) for _ in range(12)]
batched.CHUNK = 100
for how in ("0", "1", "both", "strided"):
    for projection in ("auto", "row", "weight"):
        found[f"{how} {projection}"] = step(weights(how), projection=projection)
found["units"] = step(weights("0"), row_groups=4)
found["caution"] = step(weights("0"), caution=True)
found["buffer"] = step(weights("0"), "SGDP", momentum=0.9, project_buffer=True)

split = net(True)
backward(split, 0)
found["tensor parallel"] = counted(AdamP(split.parameters()))
found["each"] = counted(AdamP(split.parameters(), foreach=False))
"""


def test_sums_of_all_groups_travel_in_one_collective_per_mesh_dimension():
    found = run(COLLECTIVES)
    assert found == {
        "0 auto": 1,
        "0 row": 0,
        "0 weight": 1,
        "1 auto": 1,
        "1 row": 1,
        "1 weight": 1,
        # vectors, which only "weight" projects, are sharded along a third mesh dimension
        "both auto": 2,
        "both row": 1,
        "both weight": 3,
        "strided auto": 2,
        "strided row": 0,
        "strided weight": 3,
        "units": 1,
        "caution": 2,
        "buffer": 1,
        "tensor parallel": 2,
        "each": 5,  # one matrix is sharded along one dimension, two along both
    }


STOCHASTIC = """
def rounded(weight, options):
    p = nn.Parameter(weight)
    optimizer = AdamP([p], lr=0.1, projection="off", low_precision="stochastic", **options)
    for t in range(3):
        full = torch.ones(shape, dtype=torch.bfloat16)
        p.grad = spread(full, how) if isinstance(p, DTensor) else full
        optimizer.step()
    return p

for shape, how in json.loads(sys.argv[1]):
    for foreach in (False, True):
        w = torch.ones(shape, dtype=torch.bfloat16)
        whole = rounded(w.clone(), {"foreach": foreach})
        split = rounded(spread(w, how), {"foreach": foreach}).full_tensor()
        found[f"{shape} {how} {foreach}"] = [
            (whole.detach() - split).abs().max().item(), len(split.unique())
        ]
"""
PLACES = [
    ((64, 6), "0"),
    ((6, 64), "1"),
    ((7, 64), "0"),
    ((2, 64), "0"),
    ((8, 8, 9), "both"),
    ((32, 12), "strided"),
    ((300,), "0"),
]


def test_shards_round_as_the_whole_weight_does():
    found = run(STOCHASTIC, json.dumps(PLACES))
    assert len(found) == 2 * len(PLACES)
    assert {name for name, (error, values) in found.items() if error or values < 2} == set()


UNEVEN = """
sizes = [1, 4, 0, 3]
start = sum(sizes[:rank])
def part(x):
    mine = x[start : start + sizes[rank]].clone()
    return DTensor.from_local(
        mine, line, [Shard(0)], run_check=False, shape=x.shape, stride=x.stride()
    )
torch.manual_seed(0)
w = torch.randn(8, 5, dtype=torch.float64)
q, p = nn.Parameter(w.clone()), nn.Parameter(part(w))
ours, plain = (AdamP([x], lr=0.05, weight_decay=0.1, foreach=True) for x in (p, q))
for _ in range(4):
    q.grad = torch.randn(8, 5, dtype=torch.float64)
    p.grad = part(q.grad)
    ours.step(), plain.step()
torch.testing.assert_close(p.to_local(), q[start : start + sizes[rank]], rtol=0, atol=1e-12)
try:
    AdamP([nn.Parameter(part(w))], row_groups=2)
except ValueError as error:
    found["error"] = str(error)
"""


def test_shards_of_any_size_are_summed_where_places_do_not_matter():
    assert "must be sharded as distribute_tensor does it" in run(UNEVEN)["error"]
