"""Every backend is the oracle, after every step, in weights and state."""

from collections import Counter
from copy import copy
from functools import lru_cache

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


@lru_cache(maxsize=1)  # every backend follows the same ones
def oracles_of(rule, shapes, options, steps):
    """Oracles before the first step; and for every step its gradients, and oracles after it."""
    rng = np.random.default_rng(0)
    oracles = [Oracle(rng.standard_normal(shape), rule, **dict(options)) for shape in shapes]
    start, path = [copy(oracle) for oracle in oracles], []
    for t in range(steps):
        numbered = enumerate(oracles, t)
        grads = [gradient(oracle, OUTCOMES[i % 3], rng) for i, oracle in numbered]
        for oracle, g in zip(oracles, grads, strict=True):
            oracle.step(g)
        path.append((grads, [copy(oracle) for oracle in oracles]))
    return start, path


def assert_follows(rule, backend, shapes, options, steps, tolerance=1e-12):
    """Run an optimizer next to oracles; return how often each outcome came, per shape."""
    start, path = oracles_of(rule, tuple(shapes), tuple(options.items()), steps)
    params = [torch.nn.Parameter(torch.tensor(oracle.w)) for oracle in start]
    optimizer = RULES[rule](params, **backend, **options)
    seen = {shape: Counter() for shape in shapes}
    largest = [1e-30] * len(params)
    for t, (grads, oracles) in enumerate(path):
        for param, g in zip(params, grads, strict=True):
            param.grad = torch.tensor(g)
        optimizer.step()
        for i, (param, oracle) in enumerate(zip(params, oracles, strict=True)):
            seen[shapes[i]][oracle.outcome] += 1
            # a weight that crosses zero keeps the rounding of its larger days
            assert close(param, oracle.w, tolerance, largest[i]), (t, oracle.w.shape)
            largest[i] = max(largest[i], np.abs(oracle.w).max(initial=0.0))
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
