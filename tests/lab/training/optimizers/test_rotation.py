"""Angles that are recorded from one optimizer and prescribed to AdamW."""

import math

import pytest
import torch
from digits_study import SPEC, trained, without_times
from torch import nn

from tangential import AdamP
from tangential_lab.training import recorded_angles
from tangential_lab.training.optimizers.rotation import AngleRecorder, RescaledAdamW, angles_text
from tangential_lab.training.trial import TrialStopped

pytestmark = pytest.mark.usefixtures("one_thread")

LR, DECAY, STEPS = 1e-2, 0.3, 12


def model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))
    return net.double()


def groups_of(net, row_groups=1):
    first, *others = net.parameters()
    return [
        {"params": [first], "scale_invariant": True, "row_groups": row_groups},
        {"params": others, "scale_invariant": False},
    ]


def train(net, optimizer, steps=STEPS):
    """The weights of the first layer before and after every step."""
    draw, seen = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x, y = (torch.randn(5, n, generator=draw, dtype=torch.float64) for n in (6, 2))
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        before = net[0].weight.detach().clone()
        optimizer.step()
        seen.append((before, net[0].weight.detach().clone()))
    return seen


def angles_between(before, after, row_groups=1):
    """Per unit, from the cosine of both."""
    a, b = (x.reshape(len(x) // row_groups, -1) for x in (before, after))
    return torch.acos((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)))


def recorded(row_groups=1):
    """Angles of AdamP on the model."""
    net = model()
    groups = groups_of(net, row_groups)
    plain = [{k: v for k, v in g.items() if k != "scale_invariant"} for g in groups]
    optimizer = AdamP(plain, lr=LR, weight_decay=DECAY)
    recorder = AngleRecorder(optimizer, groups)
    seen = train(net, optimizer)
    return torch.stack(recorder.angles), seen


@pytest.mark.parametrize("row_groups", [1, 4])
def test_recorded_angles_are_those_between_the_weights(row_groups):
    angles, seen = recorded(row_groups)
    assert angles.shape == (STEPS, 8 // row_groups)
    for step, (before, after) in zip(angles, seen, strict=True):
        expected = angles_between(before, after, row_groups)
        assert torch.allclose(step.double(), expected, rtol=1e-4)


@pytest.mark.parametrize("row_groups", [1, 4])
@pytest.mark.parametrize("retract", [False, True])
def test_every_unit_turns_by_the_prescribed_angle(row_groups, retract):
    angles, _ = recorded(row_groups)
    net = model()
    optimizer = RescaledAdamW(groups_of(net, row_groups), LR, DECAY, retract=retract)
    optimizer.angles = angles
    first = net[0].weight.detach().clone()
    for step, (before, after) in zip(angles, train(net, optimizer), strict=True):
        found = angles_between(before, after, row_groups)
        assert torch.allclose(found, step.double(), rtol=1e-4)
        if retract:
            norms = [x.view(8 // row_groups, -1).norm(dim=1) for x in (first, after)]
            assert torch.allclose(*norms, rtol=1e-12)


def test_it_turns_in_adamws_direction():
    """Its step from the initial weights is a multiple of AdamW's, decay included."""
    steps = {}
    for cls in (RescaledAdamW, torch.optim.AdamW):
        net = model()
        optimizer = cls(groups_of(net), lr=LR, weight_decay=DECAY)
        if cls is RescaledAdamW:
            optimizer.angles = torch.full((1, 8), 0.05)
        [(before, after)] = train(net, optimizer, 1)
        steps[cls] = after - before
    a, b = steps.values()
    factors = (a * b).sum(1) / b.square().sum(1)
    assert torch.allclose(a, factors[:, None] * b, rtol=1e-9, atol=1e-15)
    assert (factors > 0).all()


def test_with_its_own_angles_it_is_adamw():
    nets = [model(), model()]
    plain = torch.optim.AdamW(groups_of(nets[0]), lr=LR, weight_decay=DECAY)
    recorder = AngleRecorder(plain, groups_of(nets[0]))
    expected = train(nets[0], plain)
    rescaled = RescaledAdamW(groups_of(nets[1]), LR, DECAY)
    rescaled.angles = torch.stack(recorder.angles)
    for (_, a), (_, b) in zip(expected, train(nets[1], rescaled), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)  # angles are stored in float32
    assert torch.allclose(nets[0][3].weight, nets[1][3].weight, rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi / 2 - 0.1])
def test_units_without_a_norm_or_a_gradient_stay_finite(angle):
    weight = nn.Parameter(torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, -1.0], [2.0, 1.0]]))
    weight.grad = torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, -1.0], [-1.0, 2.0]])
    before = weight.detach().clone()
    group = {"params": [weight], "scale_invariant": True}
    optimizer = RescaledAdamW([group], lr=0.1, weight_decay=0.0)
    optimizer.angles = torch.full((1, 4), angle)
    optimizer.step()
    assert weight.isfinite().all()
    assert torch.equal(weight[1], before[1])  # no gradient
    assert torch.allclose(weight[2] / weight[2].norm(), before[2] / before[2].norm())  # radial
    assert angles_between(before[3:], weight.detach()[3:]).item() == pytest.approx(angle, abs=1e-3)


def test_a_weight_without_a_gradient_does_not_shift_the_angles_of_the_next():
    weights = [nn.Parameter(torch.randn(2, 3)) for _ in range(2)]
    weights[1].grad = torch.randn(2, 3)
    before = [w.detach().clone() for w in weights]
    optimizer = RescaledAdamW([{"params": weights, "scale_invariant": True}], 0.1, 0.0)
    optimizer.angles = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    optimizer.step()
    assert torch.equal(weights[0], before[0])
    found = angles_between(before[1], weights[1].detach())
    assert torch.allclose(found, torch.tensor([0.3, 0.4]), rtol=1e-3)


def test_angles_survive_as_text():
    angles = [torch.rand(3), torch.rand(3)]
    assert torch.equal(recorded_angles(angles_text(angles), 2), torch.stack(angles))


class TestTrial:
    @pytest.mark.slow
    def test_a_follower_takes_the_effective_steps_of_its_leader(self, digits):
        leader = trained(digits, SPEC, record_angles=True)
        angles = recorded_angles(leader["angles"], leader["steps"])
        assert angles.shape[0] == leader["steps"]
        for name in ("adamw-rescaled", "adamw-retracted"):
            follower = trained(digits, SPEC._replace(optimizer=name), angles=angles)
            pairs = (leader["curves"]["effective_step"], follower["curves"]["effective_step"])
            assert pairs[1] == pytest.approx(pairs[0], rel=1e-3)
            assert follower["curves"]["loss"] != leader["curves"]["loss"]

    @pytest.mark.slow
    def test_a_follower_of_a_diverged_trial_has_diverged(self, digits):
        angles = recorded_angles(trained(digits, record_angles=True)["angles"], 32)[:12]
        record = trained(digits, SPEC._replace(optimizer="adamw-rescaled"), angles=angles)
        assert record["diverged"]
        assert record["steps"] == 12

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["adamp", "adamw-rescaled", "adamw-retracted"])
    def test_a_resumed_trial_is_the_uninterrupted_one(self, digits, tmp_path, name):
        spec, options = SPEC._replace(optimizer=name), {"record_angles": True}
        if name != "adamp":
            leader = trained(digits, record_angles=True)
            options = {"angles": recorded_angles(leader["angles"], leader["steps"])}
        steps = iter([False] * 13 + [True])
        with pytest.raises(TrialStopped):
            trained(digits, spec, folder=tmp_path, stop=lambda: next(steps), **options)
        resumed = trained(digits, spec, folder=tmp_path, **options)
        assert without_times(resumed) == without_times(trained(digits, spec, **options))
