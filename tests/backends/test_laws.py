"""Every backend is the oracle, after every step, in weights and state."""

from collections import Counter

import numpy as np
import pytest
import torch
from oracle import Oracle
from table import OUTCOMES, RULES, SHAPES, cases, close, every_backend, gradient

pytestmark = pytest.mark.slow


def states_of(rule, oracle):
    if rule == "adam":
        return {"exp_avg": oracle.m, "exp_avg_sq": oracle.v, "step": np.array(float(oracle.t))}
    return {"momentum_buffer": oracle.m}


def assert_follows(rule, backend, shapes, options, steps, tolerance=1e-12):
    """Run optimizer and oracles side by side; return how often each outcome came, per shape."""
    rng = np.random.default_rng(0)
    oracles = [Oracle(rng.standard_normal(shape), rule, **options) for shape in shapes]
    params = [torch.nn.Parameter(torch.tensor(o.w)) for o in oracles]
    optimizer = RULES[rule](params, **backend, **options)
    seen = {shape: Counter() for shape in shapes}
    largest = dict.fromkeys(oracles, 1e-30)
    for t in range(steps):
        for i, (param, oracle, shape) in enumerate(zip(params, oracles, shapes, strict=True)):
            g = gradient(oracle, OUTCOMES[(t + i) % 3], rng)
            param.grad = torch.tensor(g)
            oracle.step(g)
            seen[shape][oracle.outcome] += 1
        optimizer.step()
        for param, oracle in zip(params, oracles, strict=True):
            # a weight that crosses zero keeps the rounding of its larger days
            assert close(param, oracle.w, tolerance, largest[oracle]), (t, oracle.w.shape)
            largest[oracle] = max(largest[oracle], np.abs(oracle.w).max(initial=0.0))
            assert optimizer.state[param].keys() == states_of(rule, oracle).keys()
            for name, expected in states_of(rule, oracle).items():
                assert close(optimizer.state[param][name], expected, tolerance), (t, name)
    return seen


@every_backend
@pytest.mark.parametrize(("rule", "name", "options"), list(cases()))
def test_backend_is_oracle_for_200_steps(rule, name, options, backend):
    seen = assert_follows(rule, backend, SHAPES, options, steps=200)
    if options.get("projection", "auto") == "auto":
        for shape in [(64, 3, 3, 3), (128, 64), (5, 7, 2)]:
            assert min(seen[shape][outcome] for outcome in OUTCOMES) > 20, (shape, seen[shape])


@every_backend
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 4, 3), {"row_axis": 1}),
        ((6, 4, 3), {"row_axis": -2, "row_groups": 2}),
        ((12, 5), {"row_groups": 3}),
        ((12, 5), {"row_groups": 12}),
        ((12, 1), {"row_groups": 4}),
        ((4, 6, 3, 3), {"row_axis": 1, "row_groups": 3, "caution": True}),
    ],
)
def test_rows_lie_along_any_axis_in_groups(rule, backend, shape, options):
    seen = assert_follows(
        rule, backend, [shape, shape], {"lr": 0.01, "weight_decay": 0.1} | options, steps=200
    )
    assert seen[shape]["row"] > 40
