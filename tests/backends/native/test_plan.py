"""A step of the kernel equals the oracle, on any number of threads."""

import copy
import io
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import Oracle
from table import (
    OUTCOMES,
    RULES,
    cases,
    close,
    every_rule,
    gradient,
    leaf,
    left_by_kernel,
    needs_kernel,
    usual,
)

from tangential import maths
from tangential.backends import native

pytestmark = [pytest.mark.slow, needs_kernel]
kernel = native.kernel
# More than one block of 32,768 elements: the decision is guessed, or the rows are split.
LARGE = [(100, 700), (40, 1000), (3, 40_001), (30_000, 2), (64, 64, 3, 3), (70_001,), (1, 50_000)]


def train(params, optimizer, steps, seed=0):
    """Gradients that open, half open and shut the gate in turn, drawn from the weights' values."""
    rng = np.random.default_rng(seed)
    for t in range(steps):
        for i, p in enumerate(params):
            oracle = Oracle(p.detach().double().numpy(), "adam")
            p.grad = torch.tensor(gradient(oracle, OUTCOMES[(t + i) % 3], rng)).to(p.dtype)
        optimizer.step()


LARGE_CASES = [
    case
    for case in cases()
    if case[1] in ("decay", "nesterov", "row", "weight", "caution", "everything", "project_buffer")
]


@pytest.mark.parametrize(("rule", "name", "options"), LARGE_CASES)
def test_large_weights_are_the_oracle(rule, name, options, monkeypatch):
    rng = np.random.default_rng(0)
    oracles = [Oracle(rng.standard_normal(shape), rule, **options) for shape in LARGE]
    start = [torch.tensor(oracle.w) for oracle in oracles]
    plans = [partial(kernel.Plan, instruction_set=isa) for isa in kernel.instruction_sets]
    optimizers = [
        RULES[rule]([leaf(w.clone()) for w in start], fused=True, **options) for _ in plans
    ]
    for t in range(7):
        grads = [outcome_of(t, i, oracle, rng) for i, oracle in enumerate(oracles)]
        for oracle, g in zip(oracles, grads, strict=True):
            oracle.step(g)
        for optimizer, plan in zip(optimizers, plans, strict=True):
            monkeypatch.setattr(native.kernel, "Plan", plan)
            step_and_compare(optimizer, oracles, grads)
    assert all(left_by_kernel(optimizer) == [[]] for optimizer in optimizers)


def outcome_of(t, i, oracle, rng):
    """A gradient that opens the gate, half opens it, shuts it, or almost opens it."""
    if t == 3 and oracle.axes > 1 and oracle.w.shape[0] > 1:  # one row speaks against all
        g = gradient(oracle, "row", rng)
        g[-2] += oracle.w[-2]
        return g
    return gradient(oracle, OUTCOMES[(t + i) % 3], rng)


def step_and_compare(optimizer, oracles, grads):
    params = optimizer.param_groups[0]["params"]
    for param, g in zip(params, grads, strict=True):
        param.grad = torch.tensor(g)
    optimizer.step()
    for param, oracle in zip(params, oracles, strict=True):
        assert close(param, oracle.w, 1e-12), oracle.w.shape
        assert close(optimizer.state[param][optimizer.buffers[0]], oracle.m, 1e-12), oracle.w.shape


def table_of_rows(draw):
    unit_size = draw(st.integers(1, 9))
    units = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    w, g, u = rng.standard_normal((3, units, unit_size))
    if draw(st.booleans()):
        g -= (g * w).sum(1, keepdims=True) / (w * w).sum(1, keepdims=True) * w
    elif draw(st.booleans()):
        g -= (g * w).sum() / (w * w).sum() * w
    for spoilt in draw(st.lists(st.sampled_from([0.0, 1e-200, 1e200, np.nan, np.inf]), max_size=2)):
        rng.choice([w, g, u])[rng.integers(units)] = spoilt
    with np.errstate(all="ignore"):
        return unit_size, np.stack([(x * y).sum(1) for x, y in ((w, w), (g, g), (g, w), (u, w))])


@given(st.data(), st.sampled_from(["auto", "row", "weight", "off"]), st.sampled_from([0.1, 0.5, 2]))
@settings(max_examples=300)
def test_gate_is_the_gate_of_maths(data, projection, delta):
    unit_size, sums = table_of_rows(data.draw)
    eps = data.draw(st.sampled_from([1e-8, 0.0, 1.0]))
    decision, coefs = kernel.gate(
        [tuple(row) for row in sums.T.tolist()],
        unit_size,
        kernel.Projection[projection],
        delta,
        eps,
    )
    moments = maths.Moments(*sums)
    with np.errstate(all="ignore"):
        if projection == "off":
            gate = maths.Gate(np.zeros(1, bool), np.zeros(1, bool))
        else:
            options = {"projection": projection, "delta": delta, "eps": eps}
            size = unit_size * sums.shape[1]
            gate = maths.gate(np, moments, np.sum, unit_size=unit_size, size=size, **options)
        expected = maths.coef(np, gate, moments.ww, moments.uw, np.sum, eps=eps)
    assert (decision == kernel.Decision.row, decision == kernel.Decision.weight) == (
        gate.row.all(),
        gate.weight.all(),
    )
    np.testing.assert_allclose(coefs, np.broadcast_to(expected, len(coefs)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"caution": True}, {"low_precision": "stochastic"}, {"low_precision": "kahan"}]
)
@every_rule
def test_n_threads_are_one_thread(cls, options, dtype):
    shapes = [*LARGE, (9, 5), (7,), (300, 100)]
    start = [torch.randn(shape).to(dtype) for shape in shapes]
    before = torch.get_num_threads()
    ended = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            params = [leaf(w.clone()) for w in start]
            optimizer = cls(params, fused=True, **usual(cls), **options)
            train(params, optimizer, 5)
            ended.append(params)
    finally:
        torch.set_num_threads(before)
    for params in ended[1:]:
        assert all(torch.equal(p, q) for p, q in zip(ended[0], params, strict=True))


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"low_precision": "kahan"}),
        (torch.bfloat16, {"low_precision": "stochastic", "state_dtype": torch.float32}),
    ],
    ids=str,
)
@every_rule
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(cls, dtype, options):
    shapes = [*LARGE, (9, 5), (7,)]
    params = [leaf(torch.randn(shape).to(dtype)) for shape in shapes]
    twins = copy.deepcopy(params)
    optimizer = cls(params, **usual(cls), **options)
    train(params, optimizer, 5)
    train(params, optimizer, 5, seed=1)

    first = cls(twins, **usual(cls), **options)
    train(twins, first, 5)
    file = io.BytesIO()
    torch.save([first.state_dict(), [p.detach() for p in twins]], file)
    file.seek(0)
    saved, weights = torch.load(file, weights_only=True)
    resumed = [leaf(w) for w in weights]
    second = cls(resumed, lr=1.0)
    second.load_state_dict(saved)
    train(resumed, second, 5, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(params, resumed, strict=True))
    for p, q in zip(params, resumed, strict=True):
        for name, value in optimizer.state[p].items():
            assert value.dtype == second.state[q][name].dtype
            assert torch.equal(value, second.state[q][name])


@settings(max_examples=150)
@given(
    st.sampled_from(list(cases())),
    st.lists(st.integers(0, 40), min_size=1, max_size=3) | st.sampled_from(LARGE),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_error_is_at_most_twice_that_of_eager(case, shape, dtype, offset, threads, seed):
    """Any shape, dtype, alignment, option and number of threads, against the float64 oracle."""
    rule, _, options = case
    assume(len(shape) > 1 or options.get("row_axis", 0) == 0)
    assume(len(shape) > 1 or options.get("projection") != "row")
    rng = np.random.default_rng(seed)
    memory = torch.empty(int(np.prod(shape)) + offset, dtype=dtype)
    p = leaf(memory[offset:].view(shape).copy_(torch.tensor(rng.standard_normal(shape))))
    q = leaf(p.detach().clone())
    oracle = Oracle(p.detach().double().numpy(), rule, **options)
    ours = RULES[rule]([p], fused=True, **options)
    eager = RULES[rule]([q], foreach=False, **options)
    slack = max(torch.finfo(dtype).eps, 1e-14)  # the oracle rounds in float64, too
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for t in range(6):
            g = gradient(oracle, OUTCOMES[t % 3], rng)
            if t == 3 and oracle.axes > 1 and oracle.w.size:  # a wrong guess
                g[-1] += oracle.w[-1]
            p.grad = torch.tensor(g).to(dtype)
            q.grad = p.grad.clone()
            oracle.step(p.grad.double().numpy())
            ours.step()
            eager.step()
            scale = np.abs(oracle.w).max(initial=1e-3)
            errors = [np.abs(x.detach().double().numpy() - oracle.w).max(initial=0) for x in (p, q)]
            assert errors[0] <= 2 * errors[1] + slack * scale, (t, errors)
    finally:
        torch.set_num_threads(before)


def plan(dtype="float32", state_dtype="float32", units=2, unit_size=3, size=6):
    layout = kernel.Dtype[dtype], kernel.Dtype[state_dtype], units, unit_size, size, 0
    return kernel.Plan([layout])


@every_rule
def test_decay_below_float32s_last_digit_is_not_lost(cls):
    """1 - 1e-8 is 1 in float32; over 1,000 steps it must take 1e-5 of the norm all the same."""
    start, norms = torch.randn(20_000), []
    for decay in (0, 1e-4):
        p = leaf(start.clone())
        optimizer = cls([p], lr=1e-4, weight_decay=decay)
        generator = torch.Generator().manual_seed(0)
        for _ in range(1000):
            p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()
        norms.append(p.detach().double().norm().item())
    assert norms[1] / norms[0] - 1 == pytest.approx(-1e-5, rel=0.05)
