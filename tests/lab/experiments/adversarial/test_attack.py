"""Attacks stay in their ball and raise the loss."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from tangential_lab.experiments.adversarial.attack import Attack
from tangential_lab.experiments.adversarial.wide_resnet import wide_resnet

ATTACKS = [
    Attack("linf", 4 / 255, 2 / 255),
    Attack("l2", 80 / 255, 2 / 255),
    Attack("l2", 80 / 255, 20 / 255, "gradient"),
]
ROUNDING = 1e-6


def lengths(change):
    return change.flatten(1).norm(dim=1)


@pytest.fixture
def batch():
    return torch.rand(6, 3, 16, 16), torch.arange(6)


@pytest.fixture
def net():
    return wide_resnet(10, 1)


def linear(weights):
    """Two classes; the logit of the second is <weights, image>, of the first 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2, bias=False))
    model[1].weight.data = torch.stack([torch.zeros(weights.numel()), weights.flatten()])
    return model


@pytest.mark.parametrize("random_start", [False, True])
def test_an_attack_on_a_linear_net_ends_where_computed_by_hand(random_start):
    weights = torch.randn(1, 4, 5)
    model, images = linear(weights), 0.4 + 0.2 * torch.rand(3, 1, 4, 5)  # nothing is cut
    labels = torch.zeros(3, dtype=torch.int64)  # so the gradient is along the weights
    signs, length = weights.sign(), weights.norm()
    for attack, change in [
        (Attack("linf", 0.1, 0.05), 0.1 * signs),
        (Attack("l2", 0.1, 0.05), 0.1 * signs / math.sqrt(20)),
        (Attack("l2", 0.1, 0.05, "gradient"), 0.1 * weights / length),
    ]:
        attacked = attack(model, images, labels, random_start=random_start)
        if attack.norm == "linf" or not random_start:
            torch.testing.assert_close(attacked, images + change.expand_as(images))
        else:  # on its way there
            cosine = nn.functional.cosine_similarity(
                (attacked - images).flatten(1), change.flatten()[None]
            )
            assert (cosine > 0.9).all()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("random_start", [False, True])
def test_an_attack_stays_in_its_ball_and_raises_the_loss(attack, random_start, net, batch):
    images, labels = batch
    attacked = attack(net, images, labels, random_start=random_start)
    change = attacked - images
    reach = change.abs().amax((1, 2, 3)) if attack.norm == "linf" else lengths(change)
    assert (reach <= attack.radius + ROUNDING).all()
    assert (reach > attack.radius / 2).all()
    assert 0 <= attacked.min() <= attacked.max() <= 1
    net.eval()
    each = partial(nn.functional.cross_entropy, target=labels, reduction="none")
    assert (each(net(attacked)) > each(net(images))).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_projection_moves_only_points_outside_the_ball(attack):
    images = torch.full((2, 3, 8, 8), 0.5)
    change = torch.randn(2, 3, 8, 8)
    near = images + attack.radius * 0.1 * change / change.abs().amax()
    near[1] = images[1] + 0.9 * attack.radius / math.sqrt(192) * change[1].sign()
    torch.testing.assert_close(attack.inside(near, images), near)
    far = attack.inside(images + change, images) - images
    if attack.norm == "linf":
        torch.testing.assert_close(far, change.clamp(-attack.radius, attack.radius))
    else:
        torch.testing.assert_close(lengths(far), torch.full((2,), attack.radius))
        assert (nn.functional.cosine_similarity(far.flatten(1), change.flatten(1)) > 0.999).all()


def test_an_attack_does_not_change_the_net(net, batch):
    net.train()
    net[1].eval()  # frozen by its owner
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    ATTACKS[0](net, *batch, random_start=True)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_an_image_without_a_gradient_stays_where_it_is(batch):
    images, labels = batch
    model = linear(torch.zeros(3, 16, 16))
    for attack in ATTACKS:
        assert torch.equal(attack(model, images, labels % 2, random_start=False), images)
