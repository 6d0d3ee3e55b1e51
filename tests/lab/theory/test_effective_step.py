"""The effective step: its exact formula, and the usual estimate with the error that it may have."""

import math

import pytest
import torch
from simulations import holds, simulated

from tangential_lab.theory import claims, steps

by_rule = pytest.mark.parametrize("rule", ["SGDP", "AdamP"])
by_optimizer = pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "SGDP", "AdamP"])


@by_optimizer
@simulated
def test_effective_step_of_any_step(optimizer, simulation):
    assert holds(steps.effective_step(optimizer, simulation))


@by_optimizer
@simulated
def test_estimated_effective_step_keeps_to_its_bound(optimizer, simulation):
    lemma = steps.estimated_effective_step(optimizer, simulation)
    assert lemma.bound is not None
    assert lemma.error < lemma.bound + 1e-12, lemma


@by_rule
@simulated
def test_bound_of_the_estimate_is_reached_by_projected_steps(rule, simulation):
    """So the bound hides no error: the largest error reaches it."""
    lemma = steps.estimated_effective_step(rule, simulation)
    assert lemma.error == pytest.approx(lemma.bound, abs=1e-12)
    from_estimate = math.sqrt(2 / (1 + math.sqrt(1 - lemma.claimed**2))) - 1
    assert lemma.error == pytest.approx(from_estimate, rel=1e-6, abs=1e-12)


def test_estimate_of_a_step_by_hand():
    """From (1, 0) by lr p = (0, 1): 45 degrees, so sqrt(2 - sqrt 2) instead of 1 / sqrt 2."""
    before, after, update = torch.tensor(
        [[[1.0, 0.0]], [[1.0, -1.0]], [[0.0, 1.0]]], dtype=torch.float64
    )
    step = steps.UnitStep(before, after, update, update, torch.ones(1, dtype=torch.float64))
    assert step.angle_rad.item() == pytest.approx(math.pi / 4)
    assert step.effective.item() == pytest.approx(math.sqrt(2 - math.sqrt(2)))


@by_optimizer
def test_effective_step_is_missed_where_a_step_goes_elsewhere(optimizer, monkeypatch):
    build = steps.BUILDERS[optimizer]

    def moved(weight, simulation):
        result = build(weight, simulation)
        result.register_step_post_hook(lambda *_: weight.data[0].add_(0.01))
        return result

    monkeypatch.setitem(steps.BUILDERS, optimizer, moved)
    assert not steps.effective_step(optimizer).holds
    if optimizer in steps.PLAIN:
        assert not steps.estimated_effective_step(optimizer).holds


def test_estimate_fails_where_nothing_is_projected(monkeypatch):
    build = steps.BUILDERS["AdamP"]
    plain = lambda weight, simulation: build(weight, simulation._replace(projection="off"))
    monkeypatch.setitem(steps.BUILDERS, "AdamP", plain)
    lemma = steps.estimated_effective_step("AdamP")
    assert not lemma.holds


@pytest.mark.parametrize("check", ["effective_step", "estimated_effective_step"])
def test_unknown_optimizer_is_named(check):
    with pytest.raises(ValueError, match=r"optimizer must be 'SGD' or .* or 'AdamP', got 'Adam'"):
        getattr(steps, check)("Adam")


def test_worst_estimate_is_the_one_that_exceeds_its_bound():
    claimed, measured = torch.ones(3), torch.tensor([1.5, 1.1, 1.0])
    lemma = claims.worst_case("name", "source", [(claimed, measured)], [torch.tensor([1, 0.05, 0])])
    assert (lemma.measured, lemma.bound) == pytest.approx((1.1, 0.05))
    assert not lemma.holds
    lemma = claims.worst_case("name", "source", [(claimed, measured)], [torch.tensor([1, 0.2, 0])])
    assert (lemma.measured, lemma.bound) == pytest.approx((1.5, 1))
    assert lemma.holds
