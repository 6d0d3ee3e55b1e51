"""Weights narrower than float32: what rounding does to them, and to their moments."""

import copy

import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, every_backend, gradient

from tangential import SGDP, AdamP
from tangential.backends.rounding import LOST

pytestmark = every_backend
narrow = pytest.mark.parametrize("dtype", LOST, ids=str)


def moved(backend, dtype, steps=1000, **options):
    """How far weights of 2 go in steps of 1e-3 against a constant gradient, in the mean."""
    p = torch.nn.Parameter(torch.full((2000,), 2.0, dtype=dtype))
    optimizer = AdamP([p], lr=1e-3, state_dtype=torch.float32, **backend, **options)
    for _ in range(steps):
        p.grad = torch.full_like(p, -1.0)
        optimizer.step()
    return float(p.detach().double().mean()) - 2


@pytest.mark.slow
def test_plain_rounding_stands_still_and_the_others_do_not(backend):
    assert moved(backend, torch.float32) == pytest.approx(1, rel=1e-3)
    assert moved(backend, torch.bfloat16) == 0
    assert moved(backend, torch.bfloat16, low_precision="kahan") == pytest.approx(1, rel=0.01)
    assert moved(backend, torch.bfloat16, low_precision="stochastic") == pytest.approx(1, rel=0.03)


@narrow
def test_kahan_keeps_float32s_path(backend, dtype):
    rng = np.random.default_rng(0)
    p = torch.nn.Parameter(torch.tensor(rng.standard_normal((40, 30))).to(dtype))
    oracle = Oracle(p.detach().double().numpy(), "adam", lr=1e-3, weight_decay=0.1)
    options = {"lr": 1e-3, "weight_decay": 0.1, "state_dtype": torch.float32}
    optimizer = AdamP([p], low_precision="kahan", **options, **backend)
    for t in range(60):
        p.grad = torch.tensor(gradient(oracle, OUTCOMES[t % 3], rng)).to(dtype)
        oracle.step(p.grad.double().numpy())
        optimizer.step()
    whole = p.detach().double() + optimizer.state[p]["compensation"].double()
    np.testing.assert_allclose(whole.numpy(), oracle.w, atol=60 * torch.finfo(dtype).eps ** 2)


@narrow
def test_stochastic_rounding_is_right_in_the_mean(backend, dtype):
    """Of 1.0 plus a quarter of a unit in the last place, one in four is rounded up."""
    p = torch.nn.Parameter(torch.ones(40_000, dtype=dtype))
    p.grad = torch.full_like(p, -torch.finfo(dtype).eps / 4)
    SGDP([p], lr=1.0, low_precision="stochastic", **backend).step()
    up = p.detach() == 1 + torch.finfo(dtype).eps
    assert ((p.detach() == 1) | up).all()
    assert up.double().mean() == pytest.approx(0.25, abs=0.01)  # five standard deviations


def test_stochastic_rounding_differs_from_weight_to_weight_and_step_to_step(backend):
    params = [torch.nn.Parameter(torch.ones(1000, dtype=torch.bfloat16)) for _ in range(2)]
    optimizer = SGDP(params, lr=1.0, low_precision="stochastic", **backend)
    seen = []
    for _ in range(2):
        for p in params:
            p.data.fill_(1)
            p.grad = torch.full_like(p, -0.004)
        optimizer.step()
        seen += [p.detach().clone() for p in params]
    assert all(not torch.equal(x, y) for i, x in enumerate(seen) for y in seen[:i])
    assert optimizer.state[params[0]]["step"].item() == 2


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("low_precision", [None, "stochastic", "kahan"])
@narrow
def test_values_that_are_not_finite_stay_unchanged(backend, dtype, low_precision, value):
    p = torch.nn.Parameter(torch.full((3, 3), value, dtype=dtype))
    optimizer = SGDP([p], lr=0.1, low_precision=low_precision, **backend)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert torch.equal(p.isnan(), torch.full((3, 3), value != value))
    assert torch.equal(p.detach(), torch.full((3, 3), value, dtype=dtype)) or value != value


@pytest.mark.slow
def test_moments_decay_in_float32_and_stand_still_in_bfloat16(backend):
    left = {}
    for state_dtype in (None, torch.float32):
        p = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
        optimizer = AdamP([p], state_dtype=state_dtype, **backend)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        optimizer.state[p]["exp_avg_sq"].fill_(1)
        for _ in range(2000):
            optimizer.step()
        left[state_dtype] = float(optimizer.state[p]["exp_avg_sq"][0, 0])
    assert left[None] == 1
    assert left[torch.float32] == pytest.approx(0.999**2000, rel=1e-3)


@narrow
@pytest.mark.parametrize("cls", [AdamP, SGDP])
def test_float32_moments_survive_load_state_dict(backend, cls, dtype):
    p = torch.nn.Parameter(torch.randn(8, 8).to(dtype))
    options = {"lr": 0.1} | ({"momentum": 0.9} if cls is SGDP else {})
    optimizer = cls([p], state_dtype=torch.float32, **options, **backend)
    p.grad = torch.randn_like(p)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    other = cls([p], **options, **backend)
    other.load_state_dict(saved)
    assert other.param_groups[0]["state_dtype"] == "float32"
    for name in optimizer.buffers:
        assert other.state[p][name].dtype == torch.float32
        assert torch.equal(other.state[p][name], optimizer.state[p][name])
        assert other.state[p][name] is not saved["state"][0][name]
    other.step()


def test_float32_weights_ignore_the_options_for_narrow_ones(backend):
    """float32 norms beside bfloat16 matrices: the options mean the narrow ones."""
    params = [torch.nn.Parameter(torch.randn(4, 4).to(d)) for d in (torch.float32, torch.bfloat16)]
    optimizer = SGDP(params, lr=0.1, low_precision="kahan", state_dtype=torch.float32, **backend)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert [*optimizer.state[params[0]]] == ["momentum_buffer"]
    assert sorted(optimizer.state[params[1]]) == ["compensation", "momentum_buffer"]
