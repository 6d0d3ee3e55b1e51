"""Triton's steps are those of the oracle; the interpreter runs them."""

import copy

import gpu_bytes
import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, RULES, cases, close, every_rule, gradient, leaf, plans_of, usual

from tangential import AdamP
from tangential.backends.triton import TritonPlan

# the interpreter computes with NumPy, which warns of values that are not finite; a GPU does not
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SHAPES = [(6, 3, 3, 3), (12, 64), (1, 128), (20, 1), (10,), (), (5, 7, 2), (0, 4)]
LONG = (3, 2500)  # rows longer than a tile
WIDE = [(40, 9), (3, 70), (5, 300), (2, 1500), (2, 2048)]  # one of every class of unit sizes
FEW = [(6, 3, 3, 3), (10,), (), (5, 300), LONG]  # the interpreter takes 10 ms per tile
DECIDING = ("plain", "delta", "row", "weight", "off", "last axis")  # options of the gate


def left_out(options):
    return bool(options.get("caution") or options.get("project_buffer"))


@pytest.mark.parametrize(("rule", "name", "options"), list(cases()))
@pytest.mark.slow
def test_triton_is_the_oracle(rule, name, options):
    rng = np.random.default_rng(0)
    shapes = [*SHAPES, *WIDE, LONG] if name in DECIDING else FEW
    if options.get("row_axis") == -1:
        shapes = [shape[::-1] for shape in shapes if len(shape) < 3]
    oracles = [
        Oracle(rng.standard_normal(shape).astype(np.float32), rule, **options) for shape in shapes
    ]
    params = [leaf(torch.tensor(o.w, dtype=torch.float32)) for o in oracles]
    optimizer = RULES[rule](params, fused=True, **options)
    for t in range(4):
        for i, (param, oracle) in enumerate(zip(params, oracles, strict=True)):
            g = gradient(oracle, OUTCOMES[(t + i) % 3], rng)
            if t == 3 and oracle.axes > 1 and oracle.w.size:
                g[-2 % len(g)] += oracle.w[-2 % len(g)]  # one row speaks against the others
            param.grad = torch.tensor(g, dtype=torch.float32)
            oracle.step(param.grad.double().numpy())
        optimizer.step()
        for param, oracle in zip(params, oracles, strict=True):
            assert close(param, oracle.w, 3e-6), (t, param.shape)
            assert close(optimizer.state[param][optimizer.buffers[0]], oracle.m, 3e-6)
    plans = plans_of(optimizer)
    assert all(isinstance(plan, TritonPlan) for plan in plans)
    if left_out(options):
        assert not plans
    elif options.get("row_axis", 0) == 0:
        left = [weight.param.numel() for plan in plans for weight in plan.other_weights]
        assert not any(left)  # only empty weights


@pytest.mark.parametrize(
    ("dtype", "state_dtype"),
    [
        (torch.bfloat16, None),
        (torch.bfloat16, torch.float32),
        (torch.float16, None),
        (torch.float32, None),
    ],
    ids=str,
)
@every_rule
@pytest.mark.slow
def test_error_is_at_most_twice_that_of_eager(cls, dtype, state_dtype):
    rng = np.random.default_rng(0)
    rule = "sgd" if "momentum" in usual(cls) else "adam"
    for options in ({"weight_decay": 0.1}, {"nesterov": True}, {"projection": "row"}):
        start = [torch.tensor(rng.standard_normal(shape)).to(dtype) for shape in (*WIDE, (7,))]
        both = [[leaf(w.clone()) for w in start] for _ in range(2)]
        if options.get("projection"):
            both = [params[:-1] for params in both]
        options = {**usual(cls), "state_dtype": state_dtype, **options}
        ours = cls(both[0], fused=True, **options)
        eager = cls(both[1], foreach=False, **options)
        options.pop("state_dtype")
        oracles = [Oracle(p.detach().double().numpy(), rule, **options) for p in both[0]]
        for t in range(3):
            for p, q, oracle in zip(*both, oracles, strict=True):
                p.grad = torch.tensor(gradient(oracle, OUTCOMES[t % 3], rng)).to(dtype)
                q.grad = p.grad.clone()
                oracle.step(p.grad.double().numpy())
            ours.step()
            eager.step()
            for p, q, oracle in zip(*both, oracles, strict=True):
                scale = np.abs(oracle.w).max()
                errors = [np.abs(x.detach().double().numpy() - oracle.w).max() for x in (p, q)]
                assert errors[0] <= 2 * errors[1] + torch.finfo(dtype).eps * scale, (t, p.shape)


@every_rule
@pytest.mark.parametrize("spoilt", [np.nan, np.inf, 1e38])
@pytest.mark.parametrize("where", ["weight", "gradient"])
def test_a_bad_element_does_not_spread(cls, spoilt, where):
    start = [torch.randn(shape) for shape in (*WIDE, LONG)]
    both = [[leaf(w.clone()) for w in start] for _ in range(2)]
    optimizers = cls(both[0], fused=True, **usual(cls)), cls(both[1], foreach=False, **usual(cls))
    for p, q in zip(*both, strict=True):
        q.grad = torch.randn_like(q)
        (q.detach() if where == "weight" else q.grad)[-1, 0] = spoilt
        p.data.copy_(q.detach())
        p.grad = q.grad.clone()
    for optimizer in optimizers:
        optimizer.step()
    for p, q in zip(*both, strict=True):
        assert torch.equal(p.isfinite(), q.isfinite())
        torch.testing.assert_close(p, q, equal_nan=True)


@every_rule
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(cls):
    def train(params, optimizer, seeds):
        for seed in seeds:
            draw = torch.Generator().manual_seed(seed)
            for p in params:
                p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)
            optimizer.step()

    for dtype, low_precision in (
        (torch.float32, None), (torch.bfloat16, "stochastic"), (torch.bfloat16, "kahan"),
    ):  # fmt: skip
        options = {**usual(cls), "fused": True, "low_precision": low_precision}
        whole = [leaf(torch.randn(shape).to(dtype)) for shape in (WIDE[0], LONG, (7,))]
        parts = [leaf(p.detach().clone()) for p in whole]
        first = cls(parts, **options)
        train(whole, cls(whole, **options), range(3))
        train(parts, first, range(2))
        second = cls(parts, **options)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        train(parts, second, range(2, 3))
        assert all(torch.equal(p, q) for p, q in zip(whole, parts, strict=True))


@every_rule
def test_a_learning_rate_may_be_a_tensor(cls):
    both = [[leaf(torch.ones(5, 3)), leaf(torch.ones(4))] for _ in range(2)]
    options = {**usual(cls), "fused": True}
    optimizers = cls(both[0], **options), cls(both[1], **{**options, "lr": torch.tensor(0.01)})
    for params, optimizer in zip(both, optimizers, strict=True):
        for p in params:
            p.grad = torch.linspace(-1, 1, p.numel()).view(p.shape)
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(*both, strict=True))


@every_rule
def test_four_launches_for_any_number_of_weights(cls, monkeypatch):
    from tangential.backends.triton import kernels

    launches = []
    for name in ("guess", "advance", "judge", "amend"):
        kernel = getattr(kernels, name)

        class Counted:
            def __getitem__(self, grid, kernel=kernel, name=name):
                launches.append(name)
                return kernel[grid]

        monkeypatch.setattr(kernels, name, Counted())
    params = [leaf(torch.randn(6, 5)) for _ in range(12)] + [leaf(torch.randn(3))]
    optimizer = cls(params, fused=True, **usual(cls))
    for _ in range(2):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
    assert launches == ["guess", "advance", "judge", "amend"] * 2


@every_rule
def test_grad_scaler_leaves_unscaling_and_skipping_to_the_device(cls):
    params, twins = ([leaf(w.clone()) for w in (torch.ones(6, 4), torch.ones(5))] for _ in range(2))
    scaled, plain = cls(params, fused=True, **usual(cls)), cls(twins, **usual(cls))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    for t in range(5):
        for p, q in zip(params, twins, strict=True):
            q.grad = torch.randn_like(q)
            p.grad = scaler.scale(q.grad.clone())
            if t == 2:
                p.grad.view(-1)[-1] = torch.inf
        before = copy.deepcopy([[p.detach() for p in params], scaled.state_dict()["state"]])
        scaler.step(scaled)
        scaler.update()
        if t == 2:
            torch.testing.assert_close(
                [[p.detach() for p in params], scaled.state_dict()["state"]], before, rtol=0, atol=0
            )
        else:
            plain.step()
            for p, q in zip(params, twins, strict=True):
                torch.testing.assert_close([p, p.grad], [q, q.grad])


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_is_that_of_the_other_backends(cls, dtype):
    for low_precision in ("kahan", "stochastic"):
        start = [torch.randn(shape).to(dtype) for shape in (*WIDE, (50,))]
        both = [[leaf(w.clone()) for w in start] for _ in range(2)]
        options = {**usual(cls), "low_precision": low_precision, "state_dtype": torch.float32}
        optimizers = cls(both[0], fused=True, **options), cls(both[1], foreach=True, **options)
        for p, q in zip(*both, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        for p, q in zip(*both, strict=True):
            same = p == q  # sums differ in their last digit, which seldom changes what is rounded
            assert same.double().mean() > 0.99
            torch.testing.assert_close(p, q, rtol=torch.finfo(dtype).eps, atol=1e-6)


@every_rule
def test_a_watcher_gets_the_sums_of_the_other_backends(cls):
    seen = []
    start = [torch.randn(shape) for shape in (*WIDE, LONG)]
    for backend in ({"fused": True}, {"foreach": True}):
        params = [leaf(w.clone()) for w in start]
        optimizer = cls(params, **backend, **usual(cls))
        optimizer.watch = seen.append
        draw = torch.Generator().manual_seed(0)
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
    ours, theirs = seen
    for a, b in zip((*ours.moments, ours.uu), (*theirs.moments, theirs.uu), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(ours.gate, theirs.gate, strict=True))


@every_rule
def test_bytes_per_weight_where_the_guess_holds(cls):
    """AdamW moves 28 bytes, SGD 20."""
    assert 20 < gpu_bytes.bytes_per_weight(cls, 128, 192) <= (32 if cls is AdamP else 24)
