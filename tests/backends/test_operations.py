"""How few operations a step of many weights takes: each is a launch on a GPU."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tangential import SGDP, AdamP, maths
from tangential.backends import foreach as batched
from tangential.backends.sums import _columns


class Counted(TorchDispatchMode):
    """Counts operations that do work: no views, no reading of numbers on the CPU."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += not func.is_view and func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def calls_of_resnet50(build, dtype):
    """Calls of a step of its 161 weights, on a device that only counts."""
    with torch.device("meta"):
        model = torchvision.models.resnet50().to(dtype)
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    optimizer = build(model.parameters())
    optimizer.step()
    with Counted() as counted:
        optimizer.step()
    return counted.calls


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (AdamP, {}),
        (AdamP, {"nesterov": True, "weight_decay": 0.1}),
        (AdamP, {"delta": 0.5}),
        (AdamP, {"projection": "row"}),
        (AdamP, {"projection": "weight"}),
        (SGDP, {"momentum": 0.9, "weight_decay": 1e-4}),
        (SGDP, {"momentum": 0.9, "delta": 0.5, "nesterov": True}),
        (SGDP, {"momentum": 0.9, "projection": "row", "project_buffer": True}),
        (SGDP, {"momentum": 0.9, "projection": "weight"}),
    ],
)
@pytest.mark.slow
def test_calls_of_a_foreach_step(cls, options):
    calls = calls_of_resnet50(lambda ps: cls(ps, lr=0.1, foreach=True, **options), torch.float32)
    assert 40 < calls <= 120  # most of them for the gate's decisions


@pytest.mark.parametrize(
    ("cls", "options"), [(AdamP, {}), (SGDP, {"momentum": 0.9, "project_buffer": True})]
)
@pytest.mark.slow
def test_calls_of_a_cautious_foreach_step(cls, options):
    calls = calls_of_resnet50(
        lambda ps: cls(ps, lr=0.1, foreach=True, caution=True, **options), torch.float32
    )
    assert 120 < calls <= 200


@pytest.mark.parametrize(
    ("low_precision", "most"), [(None, 150), ("kahan", 150), ("stochastic", 200)]
)
@pytest.mark.slow
def test_calls_of_a_foreach_step_of_narrow_weights(low_precision, most):
    calls = calls_of_resnet50(
        lambda ps: AdamP(ps, foreach=True, low_precision=low_precision), torch.bfloat16
    )
    assert 110 < calls <= most


def test_columns_of_many_groups_are_made_once():
    """On a GPU, making them again means waiting for the device."""
    groups = []
    for i in range(40):
        weights = [nn.Parameter(torch.randn(i + 2, 3)) for _ in range(2)]
        for w in weights:
            w.grad = torch.randn_like(w)
        groups.append({"params": weights})
    optimizer = AdamP(groups, foreach=True)
    optimizer.step()
    before = _columns.cache_info().misses
    optimizer.step()
    assert _columns.cache_info().misses == before


def weights(dtype):
    torch.manual_seed(0)
    values = [
        torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last),
        torch.randn(6, 5).t(),
        torch.randn(7, 3),
        torch.randn(4, 6)[:, ::2],
        torch.randn(9),
        torch.randn(()),
        torch.randn(0, 3),
    ]
    return [nn.Parameter(value.to(dtype)) for value in values]


@pytest.mark.parametrize("state_dtype", [None, torch.float32])
@pytest.mark.parametrize("low_precision", [None, "kahan", "stochastic"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_narrow_weights_are_rounded_as_each_alone(dtype, low_precision, state_dtype):
    ways = []
    for foreach in (False, True):
        params = weights(dtype)
        optimizer = SGDP(
            params,
            lr=0.1,
            momentum=0.9,
            weight_decay=0.1,
            projection="off",  # sums may differ in their last bit
            foreach=foreach,
            low_precision=low_precision,
            state_dtype=state_dtype,
        )
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator).to(dtype)
            optimizer.step()
        ways.append((params, [optimizer.state[p] for p in params]))
    (alone, alone_states), (many, many_states) = ways
    for p, q, one, other in zip(alone, many, alone_states, many_states, strict=True):
        assert torch.equal(p, q)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert all(one[name].stride() == other[name].stride() for name in one)


@pytest.mark.slow
def test_threads_do_not_change_a_bit():
    shapes = [(64, 3, 7, 7), (1, 70_000), (3, 70_000), (500, 300), (2, 40, 30), (70_000,)]
    before = torch.get_num_threads()
    ways = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            params = [nn.Parameter(torch.randn(shape)) for shape in shapes]
            optimizer = AdamP(params, lr=0.1, weight_decay=0.1, foreach=True)
            for _ in range(3):
                for p in params:
                    p.grad = torch.randn_like(p)
                optimizer.step()
            ways.append(params)
    finally:
        torch.set_num_threads(before)
    for params in ways[1:]:
        assert all(torch.equal(p, q) for p, q in zip(params, ways[0], strict=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_adam_in_few_operations_is_adam_of_maths(nesterov):
    options = AdamP([nn.Parameter(torch.ones(2))], nesterov=nesterov)
    options = options.resolved(options.param_groups[0])
    gs, ms, vs = torch.randn(3, 4, 5, dtype=torch.float64)
    vs = vs.square()
    states = [
        {"exp_avg": m.clone(), "exp_avg_sq": v.clone(), "step": torch.tensor(float(t))}
        for t, (m, v) in enumerate(zip(ms, vs, strict=True), start=1)
    ]
    us = batched.adam(list(gs), states, options)
    rule = {"betas": options.betas, "eps": options.eps, "nesterov": nesterov}
    for t, (u, state) in enumerate(zip(us, states, strict=True), start=1):
        corrections = maths.bias_corrections(t, options.betas)
        expected = maths.adam(torch, gs[t - 1], ms[t - 1], vs[t - 1], corrections, **rule)
        for actual, value in zip((state["exp_avg"], state["exp_avg_sq"], u), expected, strict=True):
            torch.testing.assert_close(actual, value, rtol=1e-13, atol=1e-15)
