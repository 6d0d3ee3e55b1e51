"""Two runs in words, and what to change after a verdict; the runs are made up."""

import math
import re

import pytest

from tangential.monitor import advice, compare, diagnose, figures, load
from tangential.monitor.diagnosis.advice import ADVICE
from tangential.monitor.motion import equilibrium_rad

STEPS = range(0, 500, 20)


def made(*, norm=1.0, growth=1.0, angle=0.01, fall=1.0, lr=0.1, memory=0.0, decay=math.nan, **more):
    """A run of two scale-invariant weights; norms and angles change evenly over the steps."""
    rows = []
    for step in STEPS:
        share = step / STEPS[-1]
        turn = angle / fall**share
        for label in ("a.weight", "b.weight"):
            row = {
                "norm": norm * growth**share,
                "angle_rad": turn,
                "effective_step": turn,
                "lr": lr,
            }
            row |= {"growth_step": 1.0, "growth_memory": memory, "grad_norm": 1.0, "invariant": 1.0}
            row |= {"equilibrium_rad": decay, "steps_to_equilibrium": 9000.0 if decay > 0 else None}
            rows.append({"step": step, "label": label, **row, **more})
    return load(rows)


def said(run, other):
    return [verdict.text for verdict in compare(run, other)]


def test_the_larger_value_is_a_multiple_of_the_smaller_one():
    texts = said(made(norm=2.0, angle=0.004), made(norm=9.0, angle=0.001))
    assert "At the end, both runs have the same lr (0.1)." in texts
    assert (
        "At the end, the median norm of the second run is 4.5 times that of the first run "
        "(9 against 2)."
    ) in texts
    assert (
        "At the end, the effective step of the first run is 4.0 times that of the second run "
        "(0.004 against 0.001)."
    ) in texts


def test_lr_makes_effective_steps_equal():
    slow, fast = made(angle=0.002, lr=0.05), made(angle=0.009)
    for runs, which in (((slow, fast), "first"), ((fast, slow), "second")):
        [verdict] = [x for x in compare(*runs) if x.kind == "same effective step"]
        assert verdict.numbers == {"times": pytest.approx(4.5), "lr": pytest.approx(4.5 * 0.05)}
        assert f"To give the {which} run the effective step" in verdict.text
        assert "raise its lr 4.5-fold, to 0.23," in verdict.text
    assert not [x for x in compare(slow, slow) if x.kind == "same effective step"]


def test_causes_and_problems_are_named_for_each_run():
    slowed = made(growth=3.0, fall=9.0, memory=9.0)
    texts = said(slowed, made(decay=0.01))
    assert (
        f"The effective step per lr fell {figures(slowed)['slowdown']:.1f}-fold in the first run; "
        "in the second run it did not change."
    ) in texts
    assert (
        "Momentum causes 90 % of the norm growth in the first run and none in the second run."
    ) in texts
    assert texts[-1] == (
        "Problems only in the first run: no equilibrium without decay, premature slowdown."
    )
    assert "Problems in both: " in said(slowed, slowed)[-1]


@pytest.mark.parametrize("times", [1e-12, 0.02, 0.951, 1.0, 1.049, 1.2, 37.0, 1e12])
def test_no_ratio_is_one_zero_or_unknown(times):
    more = {"angle": 0.01 * times, "lr": 0.1 * times, "growth": times, "fall": times}
    runs = made(decay=0.01), made(norm=times, decay=0.01, **more)
    for a, b in (runs, runs[::-1], (runs[1], runs[1])):
        text = " ".join(said(a, b) + [x.text + advice(x, a) for x in diagnose(a)])
        wrong = r"(?<![\w.])(1\.0-fold|[01](\.0)? times|(\d\S*) and \3|nan|inf)\b"
        assert not re.search(wrong, text)


def test_runs_with_means_only_are_compared_by_them():
    runs = [load([{"step": 0, "label": "all", "norm": norm}]) for norm in (2.0, 1.0)]
    assert said(*runs) == [
        "At the end, the mean norm of all matrices of the first run is 2.0 times that of the "
        "second run (2 against 1)."
    ]


# ---- advice


def changed(run, kind):
    [verdict] = [x for x in diagnose(run) if x.kind == kind]
    return advice(verdict, run)


def test_weak_decay_is_raised_until_its_equilibrium_is_the_angle_of_the_run():
    lr, decay = 0.1, 1e-5
    run = made(decay=equilibrium_rad(lr * decay, 0.0, projected=True), angle=0.02)
    factor = float(
        re.search(r"Multiply weight decay by ([\d.]+):", changed(run, "decay too weak"))[1]
    )
    assert equilibrium_rad(lr * decay * factor, 0.0, projected=True) == pytest.approx(
        0.02, rel=0.01
    )


def test_weights_that_are_too_long_need_more_steps_or_more_decay():
    text = changed(made(decay=0.05), "decay too weak")
    assert text == "Multiply weight decay by about 20, or train 9,000 steps longer."


def test_without_decay_the_advice_is_one_that_acts_within_the_run():
    text = changed(made(growth=2.0), "no equilibrium without decay")
    decay = float(re.search(r"weight decay of ([\d.]+) or more", text)[1])
    assert 0.1 * decay * STEPS[-1] == pytest.approx(1, rel=0.05)
    assert text.startswith("If norms must not grow 1.9-fold, set a weight decay of ")


def test_a_diverged_run_names_its_lr():
    run = load(
        [
            {"step": step, "label": "a.weight", "norm": math.inf if step > 60 else 1.0, "lr": 0.5}
            for step in STEPS
        ]
    )
    assert changed(run, "not finite") == (
        "Lower lr (up to 0.5 until then), and look at the batches before step 80."
    )


def test_every_problem_has_advice():
    """A new kind of verdict must say what to change."""
    kinds = ("premature slowdown", "decay too weak", "no equilibrium without decay")
    kinds += ("projected but not invariant", "layers rotate unequally", "frozen normalisation")
    assert {*ADVICE} == {*kinds, "not finite"}
