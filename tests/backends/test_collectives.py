"""Four processes: how many collectives a step takes, rounding of shards, uneven shards."""

import json

import pytest
import torch
from meshes import run_on_mesh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]

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
    found = run_on_mesh(COLLECTIVES)
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
        "each": 2,
    }


EVERY_WAY = """
from tangential import project
from torch.distributed.tensor.debug import CommDebugMode

def projected(groups, **options):
    return project(torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0), **options)

WAYS = {
    "eager": lambda groups, **options: AdamP(groups, foreach=False, **options),
    "foreach": lambda groups, **options: AdamP(groups, foreach=True, **options),
    "by default": AdamP,
    "SGDP": lambda groups, **options: SGDP(groups, lr=0.1, momentum=0.9, **options),
    "project": projected,
}
for how in ("0", "1", "both", "strided"):
    for projection in ("auto", "row", "weight"):
        for row_groups in (1, 4):
            weights = [nn.Parameter(spread(torch.randn(8, 8), how)) for _ in range(6)]
            for p in weights:
                p.grad = torch.ones_like(p)
            groups = [{"params": weights[i::2]} for i in range(2)]
            counts = []
            for way in WAYS.values():
                optimizer = way(groups, projection=projection, row_groups=row_groups)
                optimizer.step()
                with CommDebugMode() as seen:
                    optimizer.step()
                counts.append(seen.get_total_counts())
                groups = [{"params": group["params"]} for group in groups]
            found[f"{how} {projection} {row_groups}"] = counts
"""


def test_every_way_to_step_needs_at_most_one_collective_per_mesh_dimension():
    """None where rows are whole and always projected."""
    found = run_on_mesh(EVERY_WAY)
    most = {"0": 1, "1": 1, "both": 2, "strided": 2}
    expected = {
        f"{how} {projection} {groups}": [most[how]] * 5
        for how in most
        for projection in ("auto", "row", "weight")
        for groups in (1, 4)
    }
    # rows are whole, or whole along one of the two mesh dimensions
    expected |= {"0 row 1": [0] * 5, "strided row 1": [0] * 5, "both row 1": [1] * 5}
    assert found == expected


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
    found = run_on_mesh(STOCHASTIC, json.dumps(PLACES))
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
    assert "must be sharded as distribute_tensor does it" in run_on_mesh(UNEVEN)["error"]
