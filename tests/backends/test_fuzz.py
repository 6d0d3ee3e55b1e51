"""Random weights, options and gradients against the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import Oracle
from table import OUTCOMES, RULES, close, every_backend, gradient

pytestmark = pytest.mark.slow

OPTIONS = {
    "adam": st.fixed_dictionaries(
        {"lr": st.floats(1e-4, 1e-2), "betas": st.sampled_from([(0.9, 0.999), (0.5, 0.9)])}
    ),
    "sgd": st.fixed_dictionaries(
        {
            "lr": st.floats(1e-4, 1e-2),
            "momentum": st.sampled_from([0.0, 0.5, 0.9]),
            "dampening": st.sampled_from([0.0, 0.3]),
            "project_buffer": st.booleans(),
        }
    ),
}
SHARED = st.fixed_dictionaries(
    {
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "wd_ratio": st.sampled_from([0.1, 1.0, "matched"]),
        "delta": st.sampled_from([0.0, 0.1, 1.0]),
        "nesterov": st.booleans(),
        "maximize": st.booleans(),
        "caution": st.booleans(),
        "projection": st.sampled_from(["auto", "auto", "row", "weight", "off"]),
    }
)


@st.composite
def cases(draw):
    """A rule, its options, and a few weights of shapes that `row_axis` and `row_groups` allow."""
    rule = draw(st.sampled_from(list(RULES)))
    axis = draw(st.integers(-2, 1))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    shapes = []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(0, 5), max_size=4))
        if len(shape) > 1:
            shape[axis] = groups * draw(st.integers(0, 3))
        shapes.append(tuple(shape))
    options = draw(OPTIONS[rule]) | draw(SHARED) | {"row_axis": axis, "row_groups": groups}
    assume(options.get("momentum") != 0 or not options["nesterov"])
    assume(options["projection"] != "row" or any(len(shape) > 1 for shape in shapes))
    return rule, shapes, options, draw(st.booleans()), draw(st.integers(0, 2**32 - 1))


def as_tensor(x, order, paired):
    """x as a tensor whose axes lie in memory in another order."""
    axes = len(x.shape) - paired
    order = sorted(range(axes), key=lambda i: order[i % len(order)]) + list(range(axes, x.ndim))
    moved = torch.tensor(np.array(np.transpose(x, order), order="C"))
    moved = moved.permute(*np.argsort(order).tolist()) if order else moved
    return torch.complex(moved[..., 0], moved[..., 1]) if paired else moved


@settings(max_examples=200)
@given(case=cases(), order=st.permutations(range(4)))
@every_backend
def test_any_case_is_the_oracle(case, order, backend):
    rule, shapes, options, paired, seed = case
    rng = np.random.default_rng(seed)
    oracles = [
        Oracle(rng.standard_normal((*s, 2) if paired else s), rule, axes=len(s), **options)
        for s in shapes
    ]
    params = [as_tensor(o.w, order, paired).requires_grad_() for o in oracles]
    optimizer = RULES[rule](params, **backend, **options)
    for t in range(4):
        for param, oracle in zip(params, oracles, strict=True):
            g = gradient(oracle, OUTCOMES[(t + seed) % 3], rng)
            param.grad = as_tensor(g, order[::-1], paired)
            oracle.step(g)
        optimizer.step()
        for param, oracle in zip(params, oracles, strict=True):
            value = param.detach()
            assert close(torch.view_as_real(value) if paired else value, oracle.w, 1e-11)
