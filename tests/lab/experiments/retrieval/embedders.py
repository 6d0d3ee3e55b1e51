"""Small embedders and batches, for tests."""

import torch
from torch import nn

from tangential_lab.experiments.retrieval.embedder import Embedder, MeanAndMaximum
from tangential_lab.experiments.retrieval.task import (
    _criterion,
)


def small(loss="proxyanchor", classes=6, size=8, trunk=None, **options):
    torch.manual_seed(1)
    trunk = trunk or nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), MeanAndMaximum(), nn.Flatten()
    )
    return Embedder(trunk, 4, size, _criterion(loss, classes, size), **options)


def a_batch(count=12, classes=6, seed=0, side=12):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, side, side, generator=generator)
    return images, torch.arange(count) % classes


LOSSES = ("proxyanchor", "triplet")


def up_to_features(net):
    net.register_module("avgpool", MeanAndMaximum())
    net.register_module("fc", nn.Identity())
    return net
