"""optax is torch, after every step, in weights and states; `project` of Adam is AdamP."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax_steps import MISSING, distance, ours, stepper, streams, torchs, trained
from oracle import Oracle
from table import SHAPES, cases

from tangential.optax import adamp, project, sgdp

CASES = [case for case in cases() if not MISSING & case[2].keys()]
every_case = pytest.mark.parametrize(("rule", "name", "options"), CASES)


def states_of(rule, state):
    """The moments, in the order of torch's buffers."""
    inner = state[0].inner
    return (inner.mu, inner.nu) if rule == "adam" else (inner.trace,)


@every_case
@pytest.mark.slow
def test_optax_is_torch(rule, name, options):
    rows = {k: options[k] for k in ("row_axis", "delta", "projection") if k in options}
    params, grads = streams(rule, **rows)
    theirs, copies = torchs(rule, params, options)
    optimizer = ours(rule, options)
    step, state = stepper(optimizer), optimizer.init(params)
    for each in grads:
        params, state = step(params, state, each)
        for copy, g in zip(copies, each, strict=True):
            copy.grad = torch.tensor(np.array(g))
        theirs.step()
        assert distance(params, [copy.detach().numpy() for copy in copies]) < 1e-10
        for name, moments in zip(theirs.buffers, states_of(rule, state), strict=True):
            assert distance(moments, [theirs.state[copy][name].numpy() for copy in copies]) < 1e-10


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 4, 3), {"row_axis": 1}),
        ((6, 4, 3), {"row_axis": -2, "row_groups": 2}),
        ((12, 5), {"row_axis": 0, "row_groups": 3}),
        ((12, 1), {"row_axis": 0, "row_groups": 4}),
    ],
)
@pytest.mark.slow
def test_rows_lie_along_any_axis_in_groups(rule, shape, options):
    params, grads = streams(rule, [shape, shape], steps=9, **options)
    options = options | {"lr": 0.01, "weight_decay": 0.1}
    theirs, copies = torchs(rule, params, options)
    params, _ = trained(ours(rule, options), params, grads)
    for each in grads:
        for copy, g in zip(copies, each, strict=True):
            copy.grad = torch.tensor(np.array(g))
        theirs.step()
    assert distance(params, [copy.detach().numpy() for copy in copies]) < 1e-10


@pytest.mark.slow
def test_complex_weights_count_as_pairs_of_reals():
    rng = np.random.default_rng(0)
    draw = lambda: jnp.asarray(rng.standard_normal((5, 3)) + 1j * rng.standard_normal((5, 3)))
    params, grads = [draw()], [[draw()] for _ in range(5)]
    for rule in ("adam", "sgd"):
        options = {"lr": 0.1, "weight_decay": 0.1, "projection": "row"}
        theirs, copies = torchs(rule, params, options)
        for each in grads:
            copies[0].grad = torch.tensor(np.array(each[0]))
            theirs.step()
        actual, _ = trained(ours(rule, options), params, grads)
        assert distance(actual, [copies[0].detach().numpy()]) < 1e-12


@pytest.mark.parametrize(
    ("inner", "theirs", "options"),
    [
        (optax.adam(0.01, b1=0.8), adamp(0.01, b1=0.8, weight_decay=0.1, wd_ratio="matched"), 0.8),
        (optax.sgd(0.01, 0.9), sgdp(0.01, 0.9, weight_decay=0.01, wd_ratio="matched"), 0.9),
    ],
    ids=["adam", "sgd"],
)
@pytest.mark.slow
def test_project_of_adam_is_adamp_and_of_sgd_sgdp(inner, theirs, options):
    params, grads = streams(row_axis=-1)
    projected = project(inner, 0.01, weight_decay=0.1, wd_ratio="matched", beta=options)
    expected, _ = trained(theirs, params, grads)
    assert distance(trained(projected, params, grads)[0], expected) < 1e-12


@pytest.mark.slow
def test_without_decay_project_needs_no_learning_rate():
    params, grads = streams(shapes=[(6, 4), (3,)], steps=6, row_axis=-1)
    expected, _ = trained(adamp(0.01), params, grads)
    assert distance(trained(project(optax.adam(0.01)), params, grads)[0], expected) < 1e-12


def test_first_steps_in_float32_have_seven_digits():
    """1 - 0.999 in float32 has five."""
    rng = np.random.default_rng(0)
    oracle = Oracle(rng.standard_normal((8, 5)), "adam", lr=1.0, row_axis=-1)
    weights = jnp.asarray(oracle.w, jnp.float32)
    oracle.w = np.asarray(weights, np.float64)
    optimizer = adamp(1.0)
    step, state = stepper(optimizer), optimizer.init(weights)
    for _ in range(3):
        g = jnp.asarray(rng.standard_normal((8, 5)), jnp.float32)
        before = np.asarray(weights, np.float64)
        weights, state = step(weights, state, g)
        oracle.w = before
        moved = oracle.step(np.asarray(g)) - before
        np.testing.assert_allclose(np.asarray(weights, np.float64) - before, moved, atol=4e-7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.slow
def test_16_bit_weights_are_no_further_from_the_oracle_than_torchs(rule, dtype):
    options = {"lr": 0.01, "weight_decay": 0.1}
    shapes = [shape for shape in SHAPES if 0 not in shape]
    params, grads = streams(rule, shapes, row_axis=0)
    narrow = lambda xs: [x.astype(dtype) for x in xs]
    params, grads = narrow(params), [narrow(each) for each in grads]
    wide = lambda x: np.asarray(x, np.float64)
    oracles = [Oracle(wide(w), rule, **options) for w in params]
    torch_dtype = {jnp.bfloat16: torch.bfloat16, jnp.float16: torch.float16}[dtype]
    theirs, copies = torchs(rule, map(wide, params), options)
    for copy in copies:
        copy.data = copy.data.to(torch_dtype)
    actual, state = trained(ours(rule, options), params, grads)
    for each in grads:
        for copy, oracle, g in zip(copies, oracles, each, strict=True):
            copy.grad = torch.tensor(wide(g)).to(torch_dtype)
            oracle.step(wide(g))
        theirs.step()
    for w, copy, oracle in zip(actual, copies, oracles, strict=True):
        error = np.linalg.norm(wide(w) - oracle.w)
        assert error <= 2 * np.linalg.norm(copy.detach().double().numpy() - oracle.w)
        assert w.dtype == dtype
    assert {x.dtype for moments in states_of(rule, state) for x in moments} == {jnp.dtype(dtype)}
