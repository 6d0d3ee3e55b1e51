"""The rules for the radial part: each against its publication, vector by vector, and their laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tangential import maths, radial
from tangential.radial import Change, Setting

jax.config.update("jax_enable_x64", True)

LR, DECAY, WD_RATIO, BETA = 0.1, 0.4, 0.25, 0.9
A = LR * DECAY
every_library = pytest.mark.parametrize("xp", [np, torch, jnp], ids=["numpy", "torch", "jax"])


def norm(x):
    return np.linalg.norm(x)


def remove(w, e, memory):
    return w * (1 - A * WD_RATIO) + e - e @ w / (norm(w) + 1e-8) ** 2 * w


def brake(w, e, memory):
    """As in the speedrun: dampen the outward part, take the step, set the length asked for."""
    radial_part = e @ w / (w @ w) * w
    u = e + (0.5 - 1) * radial_part if e @ w > 0 else e
    kept = 1 - A * WD_RATIO
    length = max(kept * norm(w) + u @ w / norm(w), 1e-8)
    new = kept * w + u
    return new / norm(new) * length


def fixed_norm(w, e, memory):
    r = memory.setdefault("r", norm(w))
    new = w + LR * r * e / norm(e)
    return new / norm(new) * r


def fixed_value(w, e, memory):
    new = w + e
    return new / norm(new) * 3.0


def relative(w, e, memory):
    return w * (1 - A) + LR * norm(w) * e / norm(e)


def update_floor(w, e, memory):
    u = e / LR
    return w * (1 - A) + LR * u * max(1, 0.9 * norm(w) / norm(u))


def rotational(w, e, memory):
    """Kosson et al.: the tangent part over its running rms, turned and put back on the sphere."""
    r, t = memory.setdefault("r", norm(w)), memory.setdefault("t", 0) + 1
    u = -e / LR
    u = u - u @ w / (w @ w) * w
    square = 0.9 * memory.get("square", 0) + 0.1 * u @ u
    memory |= {"t": t, "square": square}
    angle = math.sqrt(2 * LR * DECAY * (1 - BETA) / (1 + BETA))
    new = w - angle * r * u / math.sqrt(square / (1 - 0.9**t))
    return new / norm(new) * r


def corrected_decay(w, e, memory):
    return w - LR * (LR / 0.5) * DECAY * w + e


def target_norm(w, e, memory):
    r = memory.setdefault("r", norm(w))
    return w - A * (1 - r / norm(w)) * w + e


def bounded_norm(w, e, memory):
    kappa = memory.setdefault("kappa", w @ w)
    after = w + e
    memory["multiplier"] = max(0, memory.get("multiplier", 0) + 0.002 * (after @ after - kappa))
    return after - 2 * memory["multiplier"] * after


CASES = [
    (radial.remove(), remove),
    (radial.brake(), brake),
    (radial.fixed_norm(), fixed_norm),
    (radial.fixed_norm(3, normalize_update=False), fixed_value),
    (radial.relative(), relative),
    (radial.update_floor(0.9), update_floor),
    (radial.rotational(), rotational),
    (radial.corrected_decay(0.5), corrected_decay),
    (radial.target_norm(), target_norm),
    (radial.bounded_norm(rate=0.002), bounded_norm),
]
every_rule = pytest.mark.parametrize(
    ("rule", "published"), CASES, ids=[published.__name__ for _, published in CASES]
)
RULES = [
    radial.remove(),
    radial.brake(0),
    radial.fixed_norm(),
    radial.fixed_norm(2.0),
    radial.relative(),
    radial.update_floor(0.1),
    radial.rotational(),
    radial.corrected_decay(1),
    radial.target_norm(1),
    radial.bounded_norm(1),
]


def step(xp, rule, w, e, state, by="row", setting=None):
    """The new weights, one unit per row, and the rule's state."""
    yes, no = (xp.asarray([x] * len(w)) for x in (True, False))
    gate = {"row": maths.Gate(yes, no), "weight": maths.Gate(no, yes), "none": maths.Gate(no, no)}
    change = Change((w * w).sum(1), (e * w).sum(1), (e * e).sum(1))
    state = state or {name: xp.zeros_like(change.ww) for name in rule.state}
    setting = setting or Setting(LR, DECAY, WD_RATIO, BETA, 1e-8)
    factors, state = radial.amended(xp, rule, gate[by], change, state, xp.sum, setting)
    scaled = e if factors.scale is None else factors.scale[:, None] * e
    return w + scaled - factors.shrink[:, None] * w, state


def changes(steps):
    """Changes e of three units, from 1 to 30 % of the length of their weights."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((3, 6)) * scale for scale in np.geomspace(0.01, 0.3, steps)]


def weights():
    return np.random.default_rng(1).standard_normal((3, 6))


@pytest.mark.slow
@every_library
@every_rule
def test_a_rule_is_its_publication(xp, rule, published):
    w, state, memories = weights(), {}, [{} for _ in range(3)]
    ours = xp.asarray(w)
    for e in changes(8):
        ours, state = step(xp, rule, ours, xp.asarray(e), state)
        w = np.stack([published(*unit) for unit in zip(w, e, memories, strict=True)])
        np.testing.assert_allclose(np.asarray(ours), w, rtol=1e-12, atol=1e-12)


@every_rule
def test_by_weight_treats_all_units_as_one_vector(rule, published):
    ours, state, memory = weights(), {}, {}
    w = ours
    for e in changes(8):
        ours, state = step(np, rule, ours, e, state, by="weight")
        w = published(w.ravel(), e.ravel(), memory).reshape(w.shape)
        np.testing.assert_allclose(ours, w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
class TestEveryRule:
    def test_plain_decay_where_the_gate_does_not_fire(self, rule):
        w, e = weights(), changes(1)[0]
        after, state = step(np, rule, w, e, {}, by="none")
        np.testing.assert_allclose(after, (1 - A) * w + e, rtol=1e-14)
        assert all(not value.any() for value in state.values())

    def test_zero_weights_and_zero_changes_stay_finite(self, rule):
        w, e = weights(), changes(1)[0]
        w[0] = e[0] = w[1] = e[2] = 0
        state = {}
        for change in (e, 0 * e, e):
            w, state = step(np, rule, w, change, state)
            assert np.isfinite(w).all()
            assert all(np.isfinite(value).all() for value in state.values())
        assert w[0].tolist() == [0] * 6
        assert w[1].any()

    def test_a_broken_unit_takes_the_plain_step_and_stays_visible(self, rule):
        w, e = weights(), changes(1)[0]
        e[0, 0] = math.nan
        after, state = step(np, rule, w, e, {})
        assert np.isnan(after).sum() == 1
        assert all(np.isfinite(value).all() for value in state.values())

    @pytest.mark.slow
    def test_traces_under_jit(self, rule):
        w, e = weights(), changes(1)[0]
        state = {name: jnp.zeros(3) for name in rule.state}
        traced = jax.jit(lambda *x: step(jnp, rule, *x)[0])(w, e, state)
        np.testing.assert_allclose(traced, step(np, rule, w, e, {})[0], rtol=1e-12)

    def test_keeps_the_dtype(self, rule):
        w, e = (torch.tensor(x, dtype=torch.float32) for x in (weights(), changes(1)[0]))
        after, state = step(torch, rule, w, e, {})
        assert {after.dtype, *(value.dtype for value in state.values())} == {torch.float32}


def test_rules_by_name():
    assert radial.rule_of("remove") == radial.remove()
    assert radial.rule_of("rotational").state == radial.rotational().state
    assert radial.rule_of(rule := radial.brake(0.3)) is rule
    for wrong in ("corrected_decay", "Remove", 3, None):
        with pytest.raises(ValueError, match=r"radial must be a rule .* got"):
            radial.rule_of(wrong)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda: radial.brake(-1), "outward must be a finite number >= 0, got -1"),
        (lambda: radial.brake(inward=math.nan), "inward must be"),
        (lambda: radial.fixed_norm(0), 'norm must be "initial" or a finite number > 0, got 0'),
        (lambda: radial.target_norm("first"), "norm must be .* got 'first'"),
        (lambda: radial.bounded_norm(rate=True), "rate must be a finite number >= 0, got True"),
        (lambda: radial.rotational(1), r"smoothing must be in \[0, 1\), got 1"),
        (lambda: radial.corrected_decay(0), "max_lr must be a finite number > 0, got 0"),
        (lambda: radial.update_floor(None), "ratio must be"),
    ],
)
def test_wrong_arguments_are_named(rule, message):
    with pytest.raises(ValueError, match=message):
        rule()


class TestLatchedGate:
    def latch(self, rows, weights, steps, wait=False):
        """The gate's decisions (row, weight) for one unit, step by step."""
        votes, decisions = maths.Votes(*np.zeros((3, 1))), []
        for row, weight in zip(rows, weights, strict=True):
            gate = maths.Gate(np.array([row]), np.array([weight]))
            gate, votes = maths.latched(np, gate, votes, steps=steps, wait=wait)
            decisions.append((bool(gate.row[0]), bool(gate.weight[0])))
        return decisions

    def test_it_decides_as_most_of_the_first_steps(self):
        rows = [True, False, True, False, False]
        assert (
            self.latch(rows, [False] * 5, 3)
            == [(row, False) for row in rows[:3]] + [(True, False)] * 2
        )

    def test_it_forgets_what_fires_by_chance(self):
        weights = [False, True, False, False, True]
        decisions = self.latch([False] * 5, weights, 4)
        assert decisions == [(False, weight) for weight in weights[:4]] + [(False, False)]

    def test_it_waits(self):
        assert (
            self.latch([True] * 4, [False] * 4, 2, wait=True)
            == [(False, False)] * 2 + [(True, False)] * 2
        )
