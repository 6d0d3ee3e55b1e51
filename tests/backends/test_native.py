"""The compiled kernel: what it takes, its guesses, its threads, and life without it."""

import copy
import io
import itertools
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import Oracle
from table import OUTCOMES, RULES, cases, close, gradient, needs_kernel

from tangential import SGDP, AdamP, maths
from tangential.backends import native

pytestmark = needs_kernel
kernel = native.kernel
every_rule = pytest.mark.parametrize("cls", RULES.values())

# More than one block of 32,768 elements: the verdict is guessed, or the rows are split.
LARGE = [(100, 700), (40, 1000), (3, 40_001), (30_000, 2), (64, 64, 3, 3), (70_001,), (1, 50_000)]


def usual(cls):
    return {"lr": 0.01} | ({"momentum": 0.9} if cls is SGDP else {})


def leaf(x):
    return x.detach().requires_grad_()


def left_by_kernel(optimizer):
    return [[p.shape for p in fused.left] for fused in optimizer._fused.values()]


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


@pytest.mark.parametrize("instruction_set", kernel.instruction_sets if kernel else [])
@pytest.mark.parametrize(("rule", "name", "options"), LARGE_CASES)
def test_large_weights_are_the_oracle(rule, name, options, instruction_set, monkeypatch):
    plan = partial(kernel.Plan, instruction_set=instruction_set)
    monkeypatch.setattr(native.kernel, "Plan", plan)
    rng = np.random.default_rng(0)
    oracles = [Oracle(rng.standard_normal(shape), rule, **options) for shape in LARGE]
    params = [leaf(torch.tensor(o.w)) for o in oracles]
    optimizer = RULES[rule](params, fused=True, **options)
    for t in range(7):
        for i, (param, oracle) in enumerate(zip(params, oracles, strict=True)):
            g = gradient(oracle, OUTCOMES[(t + i) % 3], rng)
            if t == 3 and oracle.axes > 1 and oracle.w.shape[0] > 1:  # one row speaks against all
                g = gradient(oracle, "row", rng)
                g[-2] += oracle.w[-2]
            param.grad = torch.tensor(g)
            oracle.step(g)
        optimizer.step()
        for param, oracle in zip(params, oracles, strict=True):
            assert close(param, oracle.w, 1e-12), (t, oracle.w.shape)
            state = optimizer.state[param]
            assert close(state[optimizer.buffers[0]], oracle.m, 1e-12), (t, oracle.w.shape)
    assert left_by_kernel(optimizer) == [[]]


def table_of_rows(draw):
    fan = draw(st.integers(1, 9))
    units = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    w, g, u = rng.standard_normal((3, units, fan))
    if draw(st.booleans()):
        g -= (g * w).sum(1, keepdims=True) / (w * w).sum(1, keepdims=True) * w
    elif draw(st.booleans()):
        g -= (g * w).sum() / (w * w).sum() * w
    for spoilt in draw(st.lists(st.sampled_from([0.0, 1e-200, 1e200, np.nan, np.inf]), max_size=2)):
        rng.choice([w, g, u])[rng.integers(units)] = spoilt
    with np.errstate(all="ignore"):
        return fan, np.stack([(x * y).sum(1) for x, y in ((w, w), (g, g), (g, w), (u, w))])


@given(st.data(), st.sampled_from(["auto", "row", "weight", "off"]), st.sampled_from([0.1, 0.5, 2]))
@settings(max_examples=300)
def test_gate_is_the_gate_of_maths(data, projection, delta):
    fan, sums = table_of_rows(data.draw)
    eps = data.draw(st.sampled_from([1e-8, 0.0, 1.0]))
    verdict, coefs = kernel.gate(
        [tuple(row) for row in sums.T.tolist()], fan, kernel.Projection[projection], delta, eps
    )
    moments = maths.Moments(*sums)
    with np.errstate(all="ignore"):
        if projection == "off":
            gate = maths.Gate(np.zeros(1, bool), np.zeros(1, bool))
        else:
            options = {"projection": projection, "delta": delta, "eps": eps}
            size = fan * sums.shape[1]
            gate = maths.gate(np, moments, np.sum, fan=fan, size=size, **options)
        expected = maths.coef(np, gate, moments.ww, moments.uw, np.sum, eps=eps)
    assert (verdict == kernel.Verdict.row, verdict == kernel.Verdict.weight) == (
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


TAKEN = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "one row": lambda x: x[:1].transpose(1, 3).contiguous().transpose(1, 3),
    "complex": lambda x: torch.complex(x, -x),
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "one by one": lambda x: x[:, :, :1, :1].contiguous(memory_format=torch.channels_last),
}
LEFT = {
    "strided": lambda x: x[:, ::2],
    "rows inside": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "a hole after each row": lambda x: x[..., :1],
}


@pytest.mark.parametrize("layout", TAKEN | LEFT)
@every_rule
def test_what_the_kernel_takes_and_what_foreach_does(cls, layout):
    x = torch.randn(4, 6, 2, 2)
    p, q = (leaf((TAKEN | LEFT)[layout](x.clone())) for _ in range(2))
    p.grad = torch.randn_like(p)
    q.grad = p.grad.clone()
    address, strides = p.data_ptr(), p.stride()
    ours, plain = cls([p], fused=True, **usual(cls)), cls([q], foreach=True, **usual(cls))
    ours.step()
    plain.step()
    assert left_by_kernel(ours) == [[p.shape] if layout in LEFT else []]
    assert (p.data_ptr(), p.stride()) == (address, strides)
    torch.testing.assert_close(p, q)


@every_rule
def test_a_gradient_that_lies_otherwise_is_left_to_foreach(cls):
    p, q = (leaf(torch.ones(4, 6, 2, 2)) for _ in range(2))
    q.grad = torch.randn(4, 6, 2, 2)
    p.grad = q.grad.to(memory_format=torch.channels_last)
    ours = cls([p], fused=True, **usual(cls))
    ours.step()
    cls([q], fused=True, **usual(cls)).step()
    assert left_by_kernel(ours) == [[p.shape]]
    torch.testing.assert_close(p, q)


def replace_states(p, state):
    for name in state:
        state[name] = state[name].clone()


def move_states(p, state):
    for value in state.values():
        value.data = value.data.clone()


def relay(p, state):
    p.data = p.data.to(memory_format=torch.channels_last)


def relay_gradient(p, state):
    p.grad = p.grad.to(memory_format=torch.channels_last)


def move(p, state):
    p.data = p.data.clone()


def leave_out(p, state):
    p.grad = None


def turn(p, state):
    """The same memory under another shape, as the gradient, too."""
    for x in (p, p.grad, *state.values()):
        if x.ndim:
            x.data = x.data.transpose(0, 1)


@pytest.fixture(params=[True, False], ids=["dlpack", "attributes"])
def exchange(request, monkeypatch):
    """torch tells where tensors lie by a function in C, or, before 2.10, by their attributes."""
    if not request.param:
        monkeypatch.setattr(native, "EXCHANGE", None)
    elif native.EXCHANGE is None:
        pytest.skip("this torch has no C exchange API")


CHANGES = [replace_states, move_states, relay, relay_gradient, move, leave_out, turn]


@pytest.mark.usefixtures("exchange")
@every_rule
def test_changes_between_steps_are_seen(cls):
    """Layouts, gradients that come and go, states that are replaced: never a stale address."""
    x = [torch.randn(8, 6, 3, 3), torch.randn(5)]
    pairs = [[leaf(w.clone()) for w in x] for _ in range(2)]
    optimizers = [
        cls(params, **kind, **usual(cls))
        for params, kind in zip(pairs, [{"fused": True}, {"foreach": True}], strict=True)
    ]
    for change in (c for each in CHANGES for c in (None, each, None)):
        grads = [torch.randn_like(w) for w in pairs[0]]
        for params, optimizer in zip(pairs, optimizers, strict=True):
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            if change:
                change(params[0], optimizer.state[params[0]])
            optimizer.step()
        for p, q in zip(*pairs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def widen_one_state(p, state, names):
    state[names[-1]] = state[names[-1]].float()


def negative(p, state, names):
    p.grad = torch.complex(-p.grad, -p.grad).conj().imag  # p.grad, by a bit


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("change", [widen_one_state, negative])
@every_rule
def test_memory_that_means_something_else_is_seen(cls, change):
    """Another dtype, a negative view: left to torch, which knows what they mean."""
    dtype = torch.bfloat16 if change is widen_one_state else torch.float32
    p, q = (leaf(torch.ones(4, 1, dtype=dtype)) for _ in range(2))
    ours, plain = cls([p], fused=True, **usual(cls)), cls([q], foreach=True, **usual(cls))
    for t in range(3):
        g = torch.randn(4, 1, dtype=dtype)
        for x, optimizer in ((p, ours), (q, plain)):
            x.grad = g.clone()
            if t == 1:
                change(x, optimizer.state[x], optimizer.buffers)
            optimizer.step()
        torch.testing.assert_close(p, q)


@pytest.mark.usefixtures("exchange")
@every_rule
def test_a_conjugate_view_is_refused_by_name(cls):
    p = leaf(torch.randn(4, 1, dtype=torch.complex64))
    p.grad = torch.randn_like(p)
    optimizer = cls([p], fused=True, **usual(cls))
    optimizer.step()
    p.data = p.data.conj()
    before = p.detach().clone()
    with pytest.raises(ValueError, match="lazy negation or conjugate"):
        optimizer.step()
    assert torch.equal(p, before)


@every_rule
def test_states_of_what_the_kernel_leaves_are_made_anew(cls):
    p, q = (leaf(torch.ones(4, 6)[:, ::2]) for _ in range(2))
    ours, plain = cls([p], fused=True, **usual(cls)), cls([q], foreach=True, **usual(cls))
    for _ in range(2):
        p.grad = torch.randn(4, 3)
        q.grad = p.grad.clone()
        for optimizer in (ours, plain):
            optimizer.step()
            optimizer.state.clear()
        torch.testing.assert_close(p, q)
    assert left_by_kernel(ours) == [[p.shape]]


def test_a_plan_takes_addresses_once():
    p = leaf(torch.ones(3, 2))
    p.grad = torch.ones(3, 2)
    optimizer = AdamP([p], fused=True)
    optimizer.step()
    [fused] = optimizer._fused.values()
    with pytest.raises(ValueError, match="locate them before every step"):
        fused.plan.step(fused.tensors, kernel.Options(), 1)


def test_states_in_another_order_than_the_weights():
    """Two groups, and a first step that some weights had no gradient in."""
    params, twins = ([leaf(torch.ones(3, n + 2)) for n in range(6)] for _ in range(2))
    groups = [[{"params": x[:3]}, {"params": x[3:]}] for x in (params, twins)]
    ours, plain = AdamP(groups[0], fused=True), AdamP(groups[1], foreach=True)
    for t in range(4):
        for i, (p, q) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.randn_like(p) if t or i % 2 else None
            q.grad = None if p.grad is None else p.grad.clone()
        ours.step()
        plain.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q)
    assert left_by_kernel(ours) == [[], []]


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


@every_rule
def test_grad_scaler_leaves_unscaling_and_skipping_to_the_step(cls):
    shapes = [(6, 4), (5,), (200, 300)]
    start = [torch.randn(shape) for shape in shapes]
    params, twins = ([leaf(w.clone()) for w in start] for _ in range(2))
    scaled, plain = cls(params, fused=True, **usual(cls)), cls(twins, **usual(cls))
    assert scaled._step_supports_amp_scaling
    assert not plain._step_supports_amp_scaling  # trainers would refuse to clip its gradients
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    for t in range(5):
        for p, q in zip(params, twins, strict=True):
            q.grad = torch.randn_like(q)
            p.grad = scaler.scale(q.grad.clone())
            if t == 2:
                p.grad.view(-1)[-1] = torch.inf
        weights = [p.detach().clone() for p in params]
        state = copy.deepcopy(scaled.state_dict())
        scaler.step(scaled)
        scaler.update()
        if t == 2:
            assert all(torch.equal(p, w) for p, w in zip(params, weights, strict=True))
            after = scaled.state_dict()["state"]
            assert all(
                torch.equal(after[i][k], v) for i, s in state["state"].items() for k, v in s.items()
            )
        else:
            plain.step()
            for p, q in zip(params, twins, strict=True):
                assert torch.equal(p, q)
                assert torch.equal(p.grad, q.grad)  # unscaled, as torch's fused optimizers leave it


@every_rule
def test_grad_scaler_and_a_weight_that_the_kernel_leaves(cls):
    p, q = leaf(torch.randn(4, 6)[:, ::2]), leaf(torch.randn(3, 3))
    twins = [leaf(x.detach().clone()) for x in (p, q)]
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizer, plain = cls([p, q], fused=True, **usual(cls)), cls(twins, **usual(cls))
    for x, twin in zip((p, q), twins, strict=True):
        twin.grad = torch.randn_like(x)
        x.grad = scaler.scale(twin.grad.clone())
    scaler.step(optimizer)
    plain.step()
    for x, twin in zip((p, q), twins, strict=True):
        torch.testing.assert_close(x, twin)
        assert torch.equal(x.grad, twin.grad)


@every_rule
def test_writes_move_the_version_counters(cls):
    p = leaf(torch.randn(4, 3))
    p.grad = torch.randn(4, 3)
    optimizer = cls([p], fused=True, **usual(cls))
    optimizer.step()
    before = p._version
    optimizer.step()
    assert p._version > before


def python(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


TRAIN = """
import os, signal, sys, torch
from tangential import AdamP
torch.set_num_threads(2)
params = [torch.nn.Parameter(torch.randn(300, 400)) for _ in range(3)]
optimizer = AdamP(params, lr=1e-3)
def step():
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
step()
"""


def test_a_fork_after_a_step_does_not_hang():
    code = (
        TRAIN
        + """
for p in params: p.grad = torch.ones_like(p)
child = os.fork()
signal.alarm(30)
if child == 0:
    for _ in range(3): optimizer.step()
    os._exit(0)
for _ in range(3): optimizer.step()
print(os.waitpid(child, 0)[1])
"""
    )
    result = python(code)
    assert (result.stdout, result.returncode) == ("0\n", 0), result.stderr


def test_no_second_openmp_runtime_and_no_more_threads_than_torchs():
    code = """
import os, torch
def runtimes():
    return sorted({l.split()[-1] for l in open('/proc/self/maps') if 'omp' in l.rsplit('/', 1)[-1]})
before = runtimes()
torch.set_num_threads(2)
torch.randn(1000, 1000).exp_().sum()
threads = len(os.listdir('/proc/self/task'))
"""
    check = "print(runtimes() == before, len(os.listdir('/proc/self/task')) - threads)"
    if not sys.platform.startswith("linux"):
        pytest.skip("looks into /proc")
    assert python(code + TRAIN + check).stdout == "True 0\n"


WITHOUT = "import sys; sys.modules['tangential._native'] = None\n"


def test_without_the_kernel_it_says_so_once_and_runs_on_foreach():
    code = WITHOUT + TRAIN + "AdamP(params); step(); print(float(params[0].abs().sum()) > 0)"
    result = python(code, "-W", "always")
    assert result.stdout == "True\n"
    assert result.stderr.count("the compiled kernel is missing") == 1
    assert "foreach" in result.stderr


@pytest.mark.parametrize("options", ["foreach=True", "foreach=False", "fused=False"])
def test_who_chose_another_backend_hears_nothing(options):
    result = python(WITHOUT + TRAIN.replace("lr=1e-3", f"lr=1e-3, {options}"), "-W", "always")
    assert (result.stderr, result.returncode) == ("", 0)


def test_fused_without_the_kernel_is_an_error_that_says_why():
    result = python(WITHOUT + TRAIN.replace("lr=1e-3", "lr=1e-3, fused=True"))
    assert "RuntimeError: fused is True, but the compiled kernel is missing" in result.stderr


def test_fused_and_foreach_exclude_each_other():
    with pytest.raises(ValueError, match="fused and foreach are both True"):
        AdamP([leaf(torch.ones(2))], fused=True, foreach=True)


def plan(dtype="float32", state_dtype="float32", units=2, fan=3, size=6):
    layout = kernel.Dtype[dtype], kernel.Dtype[state_dtype], units, fan, size, 0
    return kernel.Plan([layout])


def test_plan_refuses_what_it_has_no_code_for():
    with pytest.raises(ValueError, match="instruction_set"):
        kernel.Plan([], instruction_set="MMX")
    kinds = ("float32", "float64", "bfloat16", "float16")
    taken = {(x, x) for x in kinds} | {("bfloat16", "float32"), ("float16", "float32")}
    for weight, state in set(itertools.product(kinds, kinds)) - taken:
        with pytest.raises(ValueError, match="no code for the dtypes"):
            plan(weight, state)
    for weight, state in taken:
        assert plan(weight, state).rows == 2
    for units, fan, size in [(2, 3, 7), (-1, 3, 6), (2, 4, 6), (2, -3, -6), (2**62, 4, 0)]:
        with pytest.raises(ValueError, match=r"units \* fan"):
            plan(units=units, fan=fan, size=size)


def test_a_step_refuses_options_whose_buffers_it_was_not_given():
    """A plan of SGD has no second moment: Adam would write through a null pointer."""
    p = leaf(torch.ones(2, 3))
    p.grad = torch.ones(2, 3)
    optimizer = SGDP([p], lr=0.1, momentum=0.9, fused=True)
    optimizer.step()
    [fused] = optimizer._fused.values()
    assert fused.locate(optimizer.param_groups[0], optimizer.state, 0)
    before = p.detach().clone()
    with pytest.raises(ValueError, match="lacks a buffer"):
        fused.plan.step(fused.tensors, kernel.Options(), 1)  # Adam, by default
    assert torch.equal(p, before)
    with pytest.raises(ValueError, match="as many as the plan has weights"):
        kernel.Plan([]).step(fused.tensors, kernel.Options(), 1)


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
