"""The gate by hand, and the lemmas as properties."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tangential import maths

jax.config.update("jax_enable_x64", True)

SETTINGS = {"projection": "auto", "delta": 0.1, "eps": 1e-8}


def decide(xp, w, g, **settings):
    """Gate and coefficient for the rows of a matrix, with u = g."""
    w, g = (xp.asarray(x, dtype=xp.float64) for x in (w, g))
    ww, gg, gw = (w * w).sum(1), (g * g).sum(1), (g * w).sum(1)
    rows, fan = w.shape
    gate = maths.gate(
        xp,
        maths.Moments(ww, gg, gw, gw),
        xp.sum,
        unit_size=fan,
        size=rows * fan,
        **SETTINGS | settings,
    )
    c = maths.coef(xp, gate, ww, gw, xp.sum, eps=1e-8)
    return gate.row.tolist(), gate.weight.tolist(), c.tolist()


# jax compiles every operation for every shape
@pytest.mark.parametrize(
    "xp", [np, torch, pytest.param(jnp, marks=pytest.mark.slow)], ids=["numpy", "torch", "jax"]
)
class TestGateByHand:
    def test_every_row_orthogonal_projects_rows(self, xp):
        # cosines 0 and 0; threshold .1/sqrt(2) = .0707
        row, weight, c = decide(xp, [[3, 4], [1, 0]], [[4, -3], [0, 2]])
        assert (row, weight) == ([True, True], [False, False])
        assert c == [0.0, 0.0]

    def test_cosine_just_below_and_above_the_threshold(self, xp):
        # w = (1, 0): |cos| = sin of the gradient's tilt, threshold .0707106...
        below, above = 0.0707, 0.0708
        for cosine, fires in [(below, True), (above, False), (-below, True), (-above, False)]:
            g = [[cosine, math.sqrt(1 - cosine**2)]]
            row, _, c = decide(xp, [[1, 0]], g)
            assert row == [fires]
            assert c == pytest.approx([cosine if fires else 0.0], rel=1e-7)

    def test_rows_that_cancel_project_the_weight(self, xp):
        # row cosines 1 and -1, but w.g = 1 - 1 = 0 over the whole; c = u.w/|w|^2 = 0
        row, weight, _ = decide(xp, [[1, 0], [0, 1]], [[1, 0], [0, -1]])
        assert (row, weight) == ([False, False], [True, True])

    def test_weight_coefficient_is_of_the_whole(self, xp):
        # w.g = .1 of |w||g| = 2 -> .05 = .1/sqrt(4): not below; with .09 -> .045: below, c = .09/2
        for sum_, fires in [(0.1001, False), (0.09, True)]:
            g = [[1, 0], [0, sum_ - 1]]
            row, weight, c = decide(xp, [[1, 0], [0, 1]], g)
            norms = math.sqrt(2) * math.hypot(1, sum_ - 1)
            assert (sum_ / norms < 0.05) == fires
            assert (row, weight) == ([False, False], [fires, fires])
            assert c == pytest.approx([sum_ / 2 * fires] * 2, rel=1e-7)

    def test_the_gate_does_not_fire_for_a_radial_gradient(self, xp):
        assert decide(xp, [[1, 0], [0, 1]], [[1, 0], [0, 1]]) == (
            [False, False],
            [False, False],
            [0.0, 0.0],
        )

    def test_the_gate_does_not_fire_for_nan_and_infinity(self, xp):
        for bad in (math.nan, math.inf):
            with np.errstate(invalid="ignore"):
                row, weight, c = decide(xp, [[1, 0], [0, 1]], [[0, bad], [1, 0]])
            assert (row, weight, c) == ([False, False], [False, False], [0.0, 0.0])

    def test_the_gate_does_not_fire_for_an_overflowing_norm(self, xp):
        with np.errstate(over="ignore", invalid="ignore"):
            row, weight, _ = decide(xp, [[1, 0]], [[0.5e200, 1e200]])
        assert (row, weight) == ([False], [False])

    def test_the_gate_fires_for_a_zero_gradient_but_never_for_one_element(self, xp):
        assert decide(xp, [[3, 4]], [[0, 0]])[0] == [True]
        assert decide(xp, [[3], [4]], [[0], [0]])[:2] == ([False, False], [True, True])
        assert decide(xp, [[3]], [[0]])[:2] == ([False], [False])
        assert decide(xp, [[3]], [[0]], projection="row")[0] == [False]
        assert decide(xp, [[3]], [[0]], projection="weight")[1] == [False]

    def test_row_and_weight_do_not_ask_the_gate(self, xp):
        radial = [[1, 0], [0, 1]]
        assert decide(xp, radial, radial, projection="row")[2] == pytest.approx([1, 1], rel=1e-7)
        assert decide(xp, radial, [[1, 0], [0, 3]], projection="weight")[2] == pytest.approx(
            [2, 2], rel=1e-7
        )

    def test_one_nan_row_does_not_spread(self, xp):
        _, _, c = decide(xp, [[1, 0], [0, 1]], [[math.nan, 0], [0, 1]], projection="row")
        assert c == [0.0, pytest.approx(1, rel=1e-7)]


def cautious(xp, u, g):
    """A cautious step in the direction u for a gradient g."""
    agreeing, ones = maths.agreement(xp, u, g)
    return agreeing / maths.shrinkage(xp, ones.mean())


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.slow
def test_everything_traces_under_jit_and_is_numpys(nesterov):
    w, g, m, v, p = np.random.default_rng(0).standard_normal((5, 4, 6))

    def step(xp, w, g, m, v, p, t):
        betas = (0.9, 0.99)
        rule = {"betas": betas, "eps": 1e-8, "nesterov": nesterov}
        m, v, u = maths.adam(xp, g, m, v**2, maths.bias_corrections(t, betas), **rule)
        p, _ = maths.sgd(g, p, momentum=0.9, dampening=0.1, nesterov=nesterov)
        g = g - (g * w).sum(1, keepdims=True) / (w * w).sum(1, keepdims=True) * w
        ww, uw = (w * w).sum(1), (u * w).sum(1)
        moments = maths.Moments(ww, (g * g).sum(1), (g * w).sum(1), uw)
        gate = maths.gate(xp, moments, xp.sum, unit_size=6, size=24, **SETTINGS)
        c = maths.coef(xp, gate, ww, uw, xp.sum, eps=1e-8)
        damp = maths.damp(xp, gate, ww, wd_ratio=0.1)
        return m, v, p, c, damp, cautious(xp, u, g)

    traced = jax.jit(lambda *arrays: step(jnp, *arrays))(w, g, m, v, p, 3)
    plain = step(np, w, g, m, v, p, 3)
    assert plain[4].tolist() == [0.1] * 4
    for ours, numpys in zip(traced, plain, strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_python_scalars_do_not_pick_the_dtype(dtype):
    ww = torch.rand(3, dtype=dtype)
    gate = maths.gate(
        torch, maths.Moments(ww, ww, ww, ww), torch.sum, unit_size=4, size=12, **SETTINGS
    )
    assert maths.coef(torch, gate, ww, ww, torch.sum, eps=1e-8).dtype == dtype
    assert maths.damp(torch, gate, ww, wd_ratio=0.1).dtype == dtype
    assert cautious(torch, ww, ww).dtype == dtype


@pytest.mark.slow
def test_a_random_gradient_fires_the_weight_view_with_probability_erf():
    rng, fired, n = np.random.default_rng(0), 0, 20_000
    for _ in range(n):
        w, g = rng.standard_normal((2, 1, 64))
        gate = maths.gate(
            np,
            maths.Moments(
                *(np.array([x]) for x in (np.vdot(w, w), np.vdot(g, g), np.vdot(g, w))), np.zeros(1)
            ),
            np.sum,
            unit_size=64,
            size=64,
            **SETTINGS,
        )
        fired += bool(gate.row[0])
    assert fired / n == pytest.approx(math.erf(0.1 / math.sqrt(2)), abs=0.006)  # 3 sigma


def test_matched_is_one_nineteenth_at_momentum_nine_tenths():
    assert maths.matched(0.9) == pytest.approx(1 / 19)


vectors = arrays(
    np.float64,
    (3, 5),
    elements=st.floats(-10, 10).map(lambda x: x if abs(x) > 1e-3 else 1.0),
)


def tangent(w, u):
    """u less what the library finds radial, row by row, with eps = 0."""
    ww = (w * w).sum(1)
    gate = maths.Gate(ww > 0, ww < 0)
    c = maths.coef(np, gate, ww, (u * w).sum(1), np.sum, eps=0.0)
    return u - c[:, None] * w


@given(vectors, vectors)
@pytest.mark.slow
def test_projected_step_is_orthogonal(w, u):
    q = tangent(w, u)
    scale = np.linalg.norm(w, axis=1) * np.linalg.norm(u, axis=1)
    assert np.all(abs((q * w).sum(1)) <= 1e-14 * scale)


@given(vectors, vectors, st.floats(1e-4, 1))
@pytest.mark.slow
def test_squared_norm_grows_by_the_squared_step(w, u, lr):
    q = tangent(w, u)
    grown = ((w - lr * q) ** 2).sum(1)
    np.testing.assert_allclose(grown, (w**2).sum(1) + lr**2 * (q**2).sum(1), rtol=1e-13)


@given(vectors, vectors)
def test_projecting_twice_is_projecting_once(w, u):
    q = tangent(w, u)
    np.testing.assert_allclose(tangent(w, q), q, atol=1e-13 * abs(u).max())


@given(vectors, vectors, st.floats(0.01, 100))
def test_rescaling_the_weight_leaves_the_projection(w, u, scale):
    np.testing.assert_allclose(tangent(scale * w, u), tangent(w, u), atol=1e-13 * abs(u).max())
