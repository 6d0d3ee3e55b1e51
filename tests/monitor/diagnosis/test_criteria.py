"""Every criterion is met by a training that should meet it, and by no similar one."""

import math
import re

import pytest
import torch
from diagnosed_runs import HIDDEN, NO_DECAY, SLOW, WEAK, decayed, falling, kinds, net, trained
from torch import nn
from torch.optim import AdamW

from tangential import SGDP, AdamP, Monitor
from tangential.monitor import figures, load, sinks
from tangential.monitor.diagnosis import criteria

pytestmark = pytest.mark.slow


def test_momentum_without_decay_is_a_premature_slowdown(momentum):
    found = kinds(momentum)
    verdict, numbers = found[SLOW], found[SLOW].numbers
    assert verdict.labels == HIDDEN
    assert numbers["effective_step_fall"] > 3
    assert numbers["lr_fall"] == 1.0
    assert numbers["norm_growth"] > 1.5
    assert 0.9 < numbers["memory_share"] < 1
    words = (
        rf"Premature slowdown: the effective step fell {numbers['effective_step_fall']:.1f}-fold "
        rf"since step 20 while lr did not change; norms grew {numbers['norm_growth']:.1f}-fold, "
        rf"{100 * numbers['memory_share']:.0f} % of it caused by momentum "
        r"(medians over 2 weights on which the gate mostly fires)."
    )
    assert verdict.text == words


def test_the_numbers_of_a_slowdown_follow_from_the_log(momentum):
    seen = [x for x in momentum if x["label"] in HIDDEN and x["step"] >= 20]
    falls = []
    for name in HIDDEN:
        steps = [x["effective_step"] for x in seen if x["label"] == name]
        assert len(steps) == 56
        falls.append(sorted(steps[:5])[2] / sorted(steps[-5:])[2])
    every = [x for x in momentum if x["label"] in HIDDEN]
    memory, step = (sum(x[c] for x in every) for c in ("growth_memory", "growth_step"))
    numbers = kinds(momentum)[SLOW].numbers
    assert numbers["effective_step_fall"] == pytest.approx(sum(falls) / 2)
    assert numbers["memory_share"] == pytest.approx(memory / (memory + step))


def test_the_same_run_projected_is_not_slowed_down():
    found = kinds(trained(lambda w: SGDP(w, lr=0.1, momentum=0.9), audited=True))
    assert SLOW not in found


def test_a_schedule_is_not_a_premature_slowdown():
    log = trained(lambda w: AdamP(w, lr=0.003), audited=True, before=falling(0.003))
    assert (
        figures(load(log))["effective_step"]
        < figures(load(log[: len(log) // 4]))["effective_step"] / 4
    )
    assert SLOW not in kinds(log)


def test_a_step_shortened_by_lr_is_not_a_premature_slowdown(momentum):
    """The same steps and norms, with an lr that explains them."""
    asked = [{**x, "lr": 0.1 * (1 if x["step"] < 150 else 0.2)} for x in momentum]
    checked = figures(load(asked))
    assert checked["norm_growth"] > criteria.NORM_GROWTH
    assert checked["slowdown"] == pytest.approx(figures(load(momentum))["slowdown"] / 5)
    assert SLOW not in kinds(asked)


def test_vanishing_gradients_are_not_a_premature_slowdown():
    """Once a net has learnt its labels, its weights stand still."""
    model, log = net(), sinks.memory()
    x, y = torch.randn(32, 16), torch.arange(32) % 4
    optimizer = SGDP(model.parameters(), lr=0.01)
    with Monitor(model, optimizer, 5, log):
        for _ in range(300):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    checked = figures(load(log))
    assert checked["slowdown"] > criteria.SLOWDOWN
    assert checked["norm_growth"] < 1.1
    assert SLOW not in kinds(log)


def test_the_first_steps_of_adam_are_not_a_slowdown():
    """They are several times longer than the later ones."""
    log = trained(lambda w: AdamP(w, lr=1e-3), steps=120, every=1)
    first = next(x for x in log if x["label"] == "0.weight")
    checked = figures(load(log))
    assert first["effective_step"] > 2 * checked["effective_step"]
    assert checked["slowdown"] < 1.5
    assert SLOW not in kinds(log)


@pytest.mark.parametrize("audited", [False, True])
@pytest.mark.parametrize("rule", [AdamW, AdamP])
def test_little_decay_is_too_weak(rule, audited):
    found = kinds(trained(lambda w: rule(w, lr=0.01, weight_decay=1e-3), audited=audited))
    verdict, numbers = found[WEAK], found[WEAK].numbers
    assert verdict.labels == HIDDEN
    ratio = 1 if rule is AdamP else 1 / math.sqrt(19)
    rate = 0.01 * 1e-3 * (0.1 if rule is AdamP else 1)
    assert numbers["equilibrium_rad"] == pytest.approx(math.sqrt(2 * rate) * ratio, rel=1e-3)
    assert numbers["angle_over_equilibrium"] > 5
    assert numbers["steps"] == 295
    assert numbers["steps_to_equilibrium"] > 10_000
    assert verdict.text.startswith(
        "Decay is too weak to reach equilibrium in this run: after 295 steps the angle per step is "
    )
    assert f"another {numbers['steps_to_equilibrium']:,.0f} steps would be needed" in verdict.text
    assert NO_DECAY not in found


def test_a_schedule_that_leaves_equilibrium_is_not_weak_decay():
    """In the last steps lr falls faster than norms can follow."""

    def before(model, optimizer, step):
        if step == 270:
            optimizer.param_groups[0]["lr"] = 1e-5

    log = trained(decayed, before=before)
    checked = figures(load(log))
    assert checked["angle_over_equilibrium"] < 1 / criteria.OFF
    last = [x for x in log if x["label"] in HIDDEN][-1]
    assert last["steps_to_equilibrium"] > 295
    assert WEAK not in kinds(log)


def test_without_decay_there_is_no_equilibrium(momentum):
    verdict = kinds(momentum)[NO_DECAY]
    assert verdict.labels == HIDDEN
    assert verdict.numbers["norm_growth"] > 1.5
    assert re.fullmatch(
        r"There is no equilibrium to reach: the monitor knows of no decay that would shrink 2 "
        r"weights on which the gate mostly fires; norms grew 1\.\d-fold since step 20 \(median\)\.",
        verdict.text,
    )
    assert WEAK not in kinds(momentum)


def test_without_decay_constant_norms_are_sound():
    log = trained(lambda w: AdamP(w, lr=1e-4), audited=True)
    assert 1 < figures(load(log))["norm_growth"] < 1 + criteria.CLOSE
    assert [*kinds(log)] == ["sound"]
