"""project(Adam) is AdamP, and project(SGD) is SGDP, after each of 50 steps."""

import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, SHAPES, gradient, leaf, needs_kernel

from tangential import SGDP, AdamP, project
from tangential.backends import native

DECAY = {"weight_decay": 0.1}
OPTIONS = [
    {},
    DECAY,
    {**DECAY, "wd_ratio": 0.5, "delta": 0.3},
    {**DECAY, "wd_ratio": "matched"},
    {**DECAY, "row_axis": -1},
    {**DECAY, "projection": "row"},
    {**DECAY, "projection": "weight"},
    {**DECAY, "projection": "off"},
]
RULES = {"adam": (torch.optim.Adam, AdamP), "sgd": (torch.optim.SGD, SGDP)}
VARIANTS = [
    ("adam", {"foreach": False, "betas": (0.8, 0.95)}),
    ("adam", {"foreach": True, "maximize": True}),
    ("adam", {"fused": True}),
    ("sgd", {}),
    ("sgd", {"foreach": False, "momentum": 0.9}),
    ("sgd", {"fused": True, "momentum": 0.9, "nesterov": True}),
]


def distance(rule, inner, options, steps=50):
    """The largest relative distance from AdamP or SGDP, and what the gate decided."""
    weights = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    ours, theirs = ([leaf(w.clone()) for w in weights] for _ in range(2))
    base, reference = RULES[rule]
    shared = {k: v for k, v in inner.items() if k not in ("foreach", "fused")}
    optimizer = project(base(ours, lr=0.01, **inner), **options)
    expected = reference(theirs, lr=0.01, **shared, **options, foreach=False)
    units = {k: options[k] for k in ("row_axis", "projection", "delta") if k in options}
    rng, worst, outcomes = np.random.default_rng(0), 0.0, set()
    for t in range(steps):
        for p, q in zip(ours, theirs, strict=True):
            oracle = Oracle(q.detach().numpy(), "sgd", **units)
            q.grad = torch.tensor(gradient(oracle, OUTCOMES[t % 3], rng))
            p.grad = q.grad.clone()
            outcomes.add(oracle._decide(q.grad.numpy()))
        optimizer.step()
        expected.step()
        pairs = [(p, q) for p, q in zip(ours, theirs, strict=True) if q.numel()]
        worst = max(worst, *(((p - q).abs().max() / q.abs().max()).item() for p, q in pairs))
    return worst, outcomes


CASES = [("adam", {}, options) for options in OPTIONS]
CASES += [("sgd", {"momentum": 0.9}, options) for options in OPTIONS]
CASES += [(rule, inner, DECAY) for rule, inner in VARIANTS]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [False, pytest.param(True, marks=needs_kernel)])
@pytest.mark.parametrize(("rule", "inner", "options"), CASES)
def test_projected_adam_is_adamp_and_projected_sgd_is_sgdp(
    rule, inner, options, kernel, monkeypatch
):
    if not kernel:
        monkeypatch.setattr(native, "can_measure", lambda change: False)
    worst, outcomes = distance(rule, inner, options)
    assert worst < 1e-12
    if "projection" not in options:
        assert outcomes == set(OUTCOMES)
