"""Which weights of an embedder are scale-invariant."""

import pytest
import torch
from embedders import a_batch, small, up_to_features
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from tangential import audit
from tangential_lab.experiments.retrieval.embedder import Embedder
from tangential_lab.experiments.retrieval.task import (
    _criterion,
)


def residual_net():
    return up_to_features(ResNet(BasicBlock, [1, 1, 1, 1]))


def pretrained(net):
    """Statistics, scales and shifts as after training; the initial ones would have no effect."""
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in (norm.weight.data, norm.running_var):
            values.uniform_(0.5, 2)
        for values in (norm.bias.data, norm.running_mean):
            values.normal_(0, 0.5)
    return net


def audited(frozen, bias=False):
    torch.manual_seed(1)
    criterion = _criterion("proxyanchor", 4, 16)
    trunk, options = pretrained(residual_net()), {"bias": bias, "frozen": frozen, "warm_up": 5}
    model = Embedder(trunk, 512, 16, criterion, **options)
    batches = [a_batch(8, 4, seed, side=64) for seed in range(3)]
    loss = lambda model, batch: model(*batch, warm=True)
    return audit(model, batches, loss=loss)


@pytest.mark.slow
def test_with_frozen_batch_norm_only_proxies_and_the_embedding_are_scale_invariant():
    """The embedding is invariant only as a whole: a longer row turns the embeddings."""
    result = audited(frozen=True)
    assert result.names("row") == ["criterion.proxies"]
    assert result.names("weight") == ["head.weight"]
    assert not result.names("dead")


@pytest.mark.slow
def test_with_live_batch_norm_convolutions_are_scale_invariant_too():
    result = audited(frozen=False)
    convolutions = [n for n in (line.name for line in result.lines) if "conv" in n or ".0.w" in n]
    assert len(convolutions) == 12
    assert set(result.names("row")) == {"criterion.proxies", *convolutions}
    assert result.names("weight") == ["head.weight"]


def test_a_bias_takes_the_embeddings_invariance():
    """As in the published code; weight and bias are scale-invariant only together."""
    model = small(frozen=True, bias=True)
    nn.init.normal_(model.head.bias)
    result = audit(model, [a_batch(seed=s) for s in range(3)], loss=lambda m, b: m(*b))
    assert "head.weight" in result.names("variant")


@pytest.mark.slow
def test_the_audit_sees_the_published_bias_although_it_begins_at_zero():
    result = audited(frozen=False, bias=True)
    assert "head.weight" in result.names("variant")
    assert not result.names("weight")
    assert {"criterion.proxies", "trunk.conv1.weight"} <= set(result.names("row"))
