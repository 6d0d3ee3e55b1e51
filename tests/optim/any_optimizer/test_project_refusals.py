"""What `project` refuses, with an error that says what to do, before anything has changed."""

import adamp
import pytest
import timm.optim
import torch
from table import leaf
from torch import nn

from tangential import AdamP, project
from tangential.radial import corrected_decay


def weight():
    return leaf(torch.randn(4, 6))


def adam(**options):
    return torch.optim.Adam([weight()], lr=0.1, **options)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda p: torch.optim.LBFGS(p), "moves weights several times per step"),
        (lambda p: torch.optim.SparseAdam(p), "needs sparse gradients"),
        (lambda p: AdamP(p), "projects its steps already"),
        (lambda p: adamp.AdamP(p), "projects its steps already"),
        (lambda p: timm.optim.SGDP(p, lr=0.1), "projects its steps already"),
        (lambda p: project(torch.optim.Adam(p)), "projects its steps already"),
        (lambda p: timm.optim.Lookahead(torch.optim.Adam(p)), "project that one"),
        (lambda p: nn.ParameterList(p), "it is no torch.optim.Optimizer"),
    ],
)
def test_optimizers_that_cannot_be_projected(build, reason):
    with pytest.raises(TypeError, match=f"cannot be projected: .*{reason}"):
        project(build([weight()]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1}, "weight_decay must be a finite number >= 0, got -1"),
        ({"delta": None}, "delta must be a finite number >= 0, got None"),
        ({"wd_ratio": "matching"}, 'wd_ratio must be .* or "matched", got'),
        ({"eps": float("nan")}, "eps must be"),
        ({"projection": "rows"}, 'projection must be "auto" or .* got'),
        ({"row_axis": 2}, r"row_axis is 2, but a weight has shape \(4, 6\)"),
        ({"row_groups": 3}, "row_groups is 3, but a weight of shape"),
        ({"latch": -1}, "latch must be an integer >= 0, got -1"),
        ({"latch": 1.5}, "latch must be an integer >= 0, got 1.5"),
        ({"fused": "yes"}, "fused must be True, False or None, got 'yes'"),
        ({"radial": "removed"}, "radial must be a rule .* got 'removed'"),
        ({"radial": "fixed_norm"}, 'projection is "auto", but .*param_groups.* or latch=100'),
        ({"radial": corrected_decay(1)}, 'projection is "auto", but'),
    ],
)
def test_options(options, message):
    optimizer = adam()
    before = optimizer.state_dict(), dict(optimizer.defaults)
    with pytest.raises(ValueError, match=message):
        project(optimizer, **options)
    assert (optimizer.state_dict(), optimizer.defaults) == before
    project(optimizer)


class TestWeightDecay:
    message = r"weight_decay of Adam must be 0, got 0.1: write project\(Adam\(..., weight_decay=0\)"

    def test_of_the_optimizer(self):
        with pytest.raises(ValueError, match=self.message):
            project(adam(weight_decay=0.1))
        with pytest.raises(ValueError, match=r"of AdamW must be 0, got 0.01: .*=0.01\)"):
            project(torch.optim.AdamW([weight()]))

    @pytest.mark.parametrize("change", ["scheduler", "group"])
    def test_that_appears_later(self, change):
        optimizer = project(adam())
        if change == "scheduler":
            optimizer.param_groups[0]["weight_decay"] = 0.1
        else:
            optimizer.add_param_group({"params": [weight()], "weight_decay": 0.1})
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for p in params:
            p.grad = torch.randn_like(p)
        befores = [p.detach().clone() for p in params]
        with pytest.raises(ValueError, match=self.message):
            optimizer.step()
        assert all(torch.equal(*x) for x in zip(params, befores, strict=True))


def test_sparse_gradients():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = project(torch.optim.SGD(table.parameters(), lr=0.1))
    table(torch.tensor([1, 2])).sum().backward()
    before = table.weight.detach().clone()
    with pytest.raises(RuntimeError, match="SGD does not support sparse gradients"):
        optimizer.step()
    assert torch.equal(table.weight, before)


def test_an_optimizer_without_learning_rate():
    optimizer = adam()
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match="lr must be a finite number >= 0, got None"):
        project(optimizer)


def test_flattened_weights():
    flat = leaf(torch.randn(24))
    flat._fsdp_flattened = True
    with pytest.raises(ValueError, match=r"FSDP1 .* has flattened"):
        project(torch.optim.Adam([flat]))
