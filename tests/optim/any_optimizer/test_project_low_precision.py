"""16-bit weights: the optimizer moves float32 copies of them, so no update is a rounded one."""

import copy

import pytest
import torch
from table import leaf

from tangential import AdamP, project
from tangential.radial import fixed_norm

pytestmark = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def tangent(w, dtype):
    """A gradient that is orthogonal to the rows, as far as 16 bits allow."""
    g = torch.randn(w.shape)
    w = w.detach().float()
    return (g - (g * w).sum(1, True) / (w * w).sum(1, True) * w).to(dtype)


def test_a_step_is_the_float32_step_rounded_once(dtype):
    w = leaf(torch.randn(40, 60).to(dtype))
    wide = leaf(w.detach().float())
    optimizer = project(torch.optim.Adam([w], lr=0.01), weight_decay=0.1, projection="row")
    exact = AdamP([wide], lr=0.01, weight_decay=0.1, projection="row")
    for _ in range(3):
        w.grad = tangent(w, dtype)
        wide.grad = w.grad.float()
        wide.data.copy_(w.detach())
        optimizer.step()
        exact.step()
        gap = (w.detach().float() - wide.detach()).abs()
        half_ulp = wide.detach().abs() * torch.finfo(dtype).eps / 2
        assert (gap <= half_ulp * 1.01 + 1e-7).all()
    assert optimizer.state[w]["exp_avg"].dtype == torch.float32
    torch.testing.assert_close(optimizer.state[w]["exp_avg"], exact.state[wide]["exp_avg"])


def test_small_steps_leave_their_radial_part_out(dtype):
    """A difference of 16-bit weights would be all rounding: its radial part, too."""
    w = leaf(torch.randn(8, 4000).to(dtype))
    optimizer = project(torch.optim.SGD([w], lr=1e-6), radial=fixed_norm(), projection="row")
    norms = w.detach().double().norm(dim=1)
    for _ in range(10):
        w.grad = tangent(w, dtype)
        optimizer.step()
    kept = w.detach().double().norm(dim=1)
    assert ((kept / norms - 1).abs() < 1e-4).all()


def test_the_weight_its_gradient_and_all_references_stay(dtype):
    w, frozen = leaf(torch.randn(4, 6).to(dtype)), leaf(torch.randn(4, 6).to(dtype))
    w.grad = grad = torch.randn(4, 6).to(dtype)
    params = [w, frozen]
    optimizer = project(torch.optim.Adam(params, lr=0.1), weight_decay=0.1)
    kept, version = w.data_ptr(), w._version
    optimizer.step()
    [group] = optimizer.param_groups
    assert [x is y for x, y in zip(group["params"], params, strict=True)] == [True, True]
    assert w.data_ptr() == kept
    assert w.grad is grad
    assert w._version > version
    assert list(optimizer.state) == [w]
    assert not torch.equal(w, frozen)


def test_a_vector_decays_in_float32(dtype):
    """One step of decay is less than half a unit in the last place."""
    w = leaf(torch.ones(6).to(dtype))
    w.grad = torch.zeros(6).to(dtype)
    twin = copy.deepcopy(w)
    twin.grad = w.grad.clone()
    project(torch.optim.SGD([w], lr=0.1), weight_decay=0.5).step()
    torch.testing.assert_close(w.detach(), torch.full((6,), 0.95).to(dtype))
