"""Weights that a trainer has flattened have no rows: an error says what to use."""

import copy

import pytest
import torch
from processes import together
from torch import nn

from tangential import SGDP, AdamP
from tangential.optim import flattened

FSDP1 = """
import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, ShardingStrategy
from tangential import AdamP

def net(strategy, use_orig_params):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    return FSDP(
        layers, sharding_strategy=getattr(ShardingStrategy, strategy),
        use_orig_params=use_orig_params, device_id=torch.device("cpu"),
    )

def build(model):
    vectors = [p for p in model.parameters() if p.dim() < 2]
    matrices = [p for p in model.parameters() if p.dim() > 1]
    groups = [{"params": vectors, "weight_decay": 0}, {"params": matrices}]
    return AdamP([g for g in groups if g["params"]], lr=0.1)

for strategy, use_orig_params in [("FULL_SHARD", True), ("FULL_SHARD", False), ("NO_SHARD", False)]:
    try:
        build(net(strategy, use_orig_params))
    except ValueError as error:
        print(str(error))
model = net("NO_SHARD", True)
plain = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3))
plain.load_state_dict({k: v.detach().clone() for k, v in model.module.state_dict().items()})
optimizers = build(model), build(plain)
x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
for _ in range(3):
    for one, optimizer in zip((model, plain), optimizers):
        optimizer.zero_grad()
        one(x).square().sum().backward()
        optimizer.step()
torch.testing.assert_close(list(model.parameters()), list(plain.parameters()))

torch.manual_seed(0)
late = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
optimizer = build(late)
late = FSDP(late, use_orig_params=True, device_id=torch.device("cpu"))
late(x).sum().backward()
try:
    optimizer.step()
except ValueError as error:
    print("at a step:", str(error))
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.slow
def test_fsdp1_raises_on_every_process_unless_it_keeps_shapes():
    for lines in together(FSDP1):
        errors = lines.splitlines()
        assert len(errors) == 4
        assert all("has flattened: use FSDP2 (fully_shard), or FSDP1" in e for e in errors)
        assert errors[3].startswith("at a step:")


def marked(shape, *names):
    param = nn.Parameter(torch.randn(shape))
    for name in names:
        setattr(param, name, True)
    return param


@pytest.mark.parametrize("names", [("_is_flat_param", "_fsdp_flattened"), ("_fsdp_flattened",)])
def test_marked_weights_raise_before_anything_changed(names):
    flat, ordinary = marked(12, *names), nn.Parameter(torch.randn(3, 3))
    for projection in ("auto", "row", "weight"):
        with pytest.raises(ValueError, match=r"got one of shape \(12,\) that FSDP1"):
            AdamP([ordinary, flat], projection=projection)
    AdamP([ordinary, flat], projection="off")
    optimizer = SGDP([ordinary], lr=0.1)
    with pytest.raises(ValueError, match="has flattened"):
        optimizer.add_param_group({"params": [flat]})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [flat], "projection": "off"})


def test_vectors_that_fsdp1_marks_beside_whole_matrices_are_fine():
    vector, matrix = marked(4, "_fsdp_flattened"), marked((4, 4), "_fsdp_flattened")
    optimizer = AdamP([{"params": [vector]}, {"params": [matrix], "projection": "off"}])
    copy.deepcopy(optimizer).add_param_group({"params": [nn.Parameter(torch.ones(2))]})


def test_projection_by_row_without_any_matrix_raises():
    matrix, vector = (nn.Parameter(torch.randn(shape)) for shape in [(3, 3), (3,)])
    number = nn.Parameter(torch.ones(()))
    message = r'projection="row" needs weights of two dimensions or more, got only shapes \(\), \('
    with pytest.raises(ValueError, match=message):
        AdamP([vector, number], projection="row")
    with pytest.raises(ValueError, match=message):
        AdamP([{"params": [matrix]}, {"params": [vector, number], "projection": "row"}])
    # the vectors of a model, apart from the matrices, under one option for all
    groups = [{"params": [vector, number], "weight_decay": 0}, {"params": [matrix]}]
    AdamP(groups, projection="row")
    AdamP([vector, matrix], projection="row")
    AdamP(nn.Sequential(nn.LazyLinear(3), nn.LayerNorm(3)).parameters(), projection="row")


def zero(optimizer, size):
    """Do to an optimizer what DeepSpeed's ZeRO does: a flat partition for every group."""
    for group in optimizer.param_groups:
        group["params"] = [nn.Parameter(torch.randn(size))]
        group["params"][0].grad = torch.ones(size)


def test_partitions_under_row_raise_at_the_step():
    matrix, vector = (nn.Parameter(torch.randn(shape)) for shape in [(3, 3), (3,)])
    optimizer = AdamP([matrix, vector], projection="row")
    zero(optimizer, 12)
    before = optimizer.param_groups[0]["params"][0].detach().clone()
    with pytest.raises(ValueError, match="DeepSpeed ZeRO 1 and 2 do"):
        optimizer.step()
    assert torch.equal(before, optimizer.param_groups[0]["params"][0])


def test_large_partitions_warn_once_and_small_vectors_do_not(monkeypatch):
    monkeypatch.setattr(flattened, "_warned", False)
    optimizer = AdamP([nn.Parameter(torch.randn(3, 3))])
    zero(optimizer, 1000)
    optimizer.step()
    zero(optimizer, 2**20)
    with pytest.warns(UserWarning, match="every weight is a vector, the largest of 1048576"):
        optimizer.step()
    optimizer.step()
    for projection in ("off", "auto"):
        monkeypatch.setattr(flattened, "_warned", False)
        params = [nn.Parameter(torch.zeros(2**20)), nn.Parameter(torch.zeros(2, 2))]
        optimizer = AdamP(params[: 1 if projection == "off" else 2], projection=projection)
        params[0].grad = torch.zeros(2**20)
        optimizer.step()
