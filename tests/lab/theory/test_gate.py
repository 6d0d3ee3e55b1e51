"""What the gate's threshold does, by chance and to small modules."""

import math

import pytest
import torch

from tangential import SGDP, maths
from tangential.backends import Units
from tangential.invariance import gate_decision
from tangential_lab.theory import gate

PAIRS = 40_000


@pytest.fixture(scope="module")
def rates():
    return gate.chance_rates(pairs=PAIRS, seed=1)


def five_deviations(probability):
    return 5 * math.sqrt(probability * (1 - probability) / PAIRS)


@pytest.mark.slow
def test_the_weights_test_passes_as_often_as_the_formula_says(rates):
    assert [rate.delta for rate in rates] == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert [f"{rate.formula:.4f}" for rate in rates][2:] == ["0.0797", "0.2358", "0.6827"]
    for rate in rates:
        assert rate.layer_view == pytest.approx(rate.formula, abs=five_deviations(rate.formula))


def test_rows_pass_together_as_often_as_independent_ones(rates):
    """A row of 32 elements is a little off the normal distribution: 1 % of the probability."""
    for rate in rates:
        for rows, share in rate.row_view.items():
            expected = rate.formula**rows
            allowed = five_deviations(expected) + 0.01 * rows * expected
            assert share == pytest.approx(expected, abs=allowed)


def test_rates_come_from_the_gate_itself(monkeypatch):
    """Not from a formula: they change with the gate."""
    monkeypatch.setattr(maths, "orthogonal", lambda xp, ww, *_: ww > 0)
    [rate] = gate.chance_rates([0.1], pairs=100)
    assert rate.layer_view == rate.row_view[8] == 1


def test_a_simulation_needs_at_least_one_pair():
    with pytest.raises(ValueError, match="pairs must be an integer >= 1, got 0"):
        gate.chance_rates(pairs=0)


EXPECTED = {
    "Conv2d, BatchNorm": Units("row", 0, 1),
    "Conv2d, BatchNorm, x * 0.04": Units("row", 0, 1),
    "Linear, LayerNorm": Units("weight", 0, 1),
    "Conv2d, GroupNorm(2)": Units("row", 0, 4),
    "ConvTranspose2d, BatchNorm": Units("row", 1, 1),
    "queries, QK-norm per head": Units("row", 0, 4),
    "Conv2d, no normalisation": Units("off"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", gate.EXAMPLES)
def test_examples_have_the_units_that_they_should(name):
    examined = gate.examine(name, [0.1], steps=12)
    assert examined.units == EXPECTED[name]
    treatment = examined.by_delta[0.1]
    if examined.units.projection == "off":
        assert math.isnan(treatment.radial)
        assert math.isnan(examined.radial_with_units)
        return
    assert examined.radial_with_units < 1e-7
    found_by_gate = examined.units in (Units("row"), Units("weight"))
    assert (treatment.radial < 1e-7) == found_by_gate
    assert treatment.by_row == (1 if examined.units == Units("row") else 0)
    assert treatment.by_weight == 1 - treatment.by_row


@pytest.mark.slow
def test_a_small_delta_misses_rows_before_a_noticeable_eps():
    by_delta = gate.examine("Conv2d, BatchNorm, x * 0.04", [0.01, 0.1], steps=12).by_delta
    assert by_delta[0.01].by_row < 0.5
    assert by_delta[0.01].radial > 0.01
    assert by_delta[0.1].by_row == 1


@pytest.mark.parametrize("delta", [0.01, 0.1, 1.0])
def test_decisions_are_those_of_the_optimizer(delta):
    """What the step of an optimizer is orthogonal to says what has been projected."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        weight, grad = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
        decision = gate_decision(weight, grad, delta=delta)
        param = weight.clone().requires_grad_()
        param.grad = grad.clone()
        SGDP([param], lr=1.0, momentum=0.0, delta=delta, eps=0).step()
        step = param.detach() - weight
        by_row = (step * weight).sum(1).abs().max() < 1e-12
        by_weight = (step * weight).sum().abs() < 1e-12
        assert decision == ("row" if by_row else "weight" if by_weight else "off")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Linear",), "name must be 'Conv2d, BatchNorm' or .*, got 'Linear'"),
        (("Linear, LayerNorm", [0.1], 2), "steps must be an integer >= 3, got 2"),
    ],
)
def test_wrong_arguments_of_examine_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        gate.examine(*arguments)


def test_training_leaves_the_generator_alone():
    before = torch.random.get_rng_state()
    gate.examine("Linear, LayerNorm", [0.1], steps=3)
    assert torch.equal(torch.random.get_rng_state(), before)
