"""timm builds our optimizers by name."""

import logging

import pytest
import timm.optim
import torch
from torch import nn

import tangential
from tangential.integrations.timm import register


@pytest.fixture(autouse=True)
def registered():
    register()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def trained(model, optimizer, steps=5):
    for seed in range(steps):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return [param.detach() for param in model.parameters()]


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_what_timm_builds_is_ours_with_the_published_defaults(name):
    by_timm, by_hand = net(), net()
    opt = f"tangential-{name.lower()}"
    optimizer = timm.optim.create_optimizer_v2(by_timm, opt, lr=0.01, weight_decay=0.1)
    cls = getattr(tangential, name)
    assert type(optimizer) is cls
    flat = [p for p in by_hand.parameters() if p.dim() < 2]  # timm's groups do not decay them
    groups = [
        {"params": flat, "weight_decay": 0.0},
        {"params": [p for p in by_hand.parameters() if p.dim() > 1], "weight_decay": 0.1},
    ]
    momentum = {"momentum": 0.9} if name == "SGDP" else {}  # timm's default
    twin = cls(groups, lr=0.01, **momentum)
    pairs = zip(trained(by_timm, optimizer), trained(by_hand, twin), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_options_and_layer_decay_reach_the_optimizer():
    optimizer = timm.optim.create_optimizer_v2(
        timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32),
        "tangential-adamp",
        lr=1e-3,
        weight_decay=0.1,
        layer_decay=0.5,
        wd_ratio="matched",
        betas=(0.8, 0.95),
    )
    assert optimizer.defaults["wd_ratio"] == "matched"
    assert optimizer.defaults["betas"] == (0.8, 0.95)
    assert {group["lr_scale"] for group in optimizer.param_groups} == {0.125, 0.25, 0.5, 1.0}


def test_an_underscore_would_build_timms_own():
    """timm 1.0 ignores what precedes the last underscore of a name."""
    optimizer = timm.optim.create_optimizer_v2(net(), "tangential_adamp", lr=0.01)
    assert type(optimizer) is timm.optim.AdamP
    assert optimizer.defaults["wd_ratio"] == 0.01
    assert optimizer.defaults["nesterov"]


def test_registering_again_changes_nothing(caplog):
    before = timm.optim.list_optimizers()
    with caplog.at_level(logging.WARNING):
        register()
    assert timm.optim.list_optimizers() == before
    assert not caplog.records
