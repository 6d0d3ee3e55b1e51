"""The published training on tiny folders."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from embedders import up_to_features
from rehearsal import trial
from tiny_photosets import TINY, tiny_sop
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.retrieval import embedder
from tangential_lab.experiments.retrieval import task as retrieval_room
from tangential_lab.experiments.retrieval.task import (
    PUBLISHED,
    retrieval,
)
from tangential_lab.training.trial import TrialStopped


def test_the_trunk_is_held_for_the_published_epochs(tmp_path, monkeypatch):
    epochs = {"cub": 5, "cars": 5, "sop": 1, "inshop": 1}
    assert {name: published.warm_up for name, published in PUBLISHED.items()} == epochs
    tiny_sop(tmp_path)
    monkeypatch.setitem(PUBLISHED, "sop", PUBLISHED["sop"]._replace(batch_size=3))
    task = retrieval(preset="paper", data=tmp_path, dataset="sop", pretrained=False)
    assert task.model().warm_up == 2  # batches of 3 from 6 photographs
    assert task.frozen_epochs == 1


def test_the_embedding_has_a_bias_as_published(tmp_path):
    tiny_sop(tmp_path)
    task = retrieval(preset="paper", data=tmp_path, dataset="sop", pretrained=False)
    head = task.model().head
    assert head.weight.shape == (512, 2048)
    assert torch.equal(head.bias, torch.zeros(512))


def trunk(trained):
    return {k: v for k, v in trained.model.state_dict().items() if k.startswith("trunk.conv1")}


def in_small(picture):
    return torch.from_numpy(np.array(picture.resize((48, 48)))).permute(2, 0, 1) / 255


def bottlenecks():
    return up_to_features(ResNet(Bottleneck, [1, 1, 1, 1]))


@pytest.mark.parametrize(
    ("dataset", "loss", "batch", "epochs"),
    [("auto", "proxyanchor", 3, 1), ("sop", "triplet", 6, 2)],
)
@pytest.mark.slow
def test_paper_steps_stops_and_resumes(dataset, loss, batch, epochs, tmp_path, monkeypatch):
    """Two steps of ResNet-50, and one and another after a stop, end in the same weights.

    The first is warm-up: a resumed trial must know that it is over. BatchNorm is frozen for CUB,
    which "auto" is, and live for SOP, which is seen small by a ResNet-14: that takes less time.
    """
    name = "cub" if dataset == "auto" else dataset
    TINY[name](tmp_path)
    short = PUBLISHED[name]._replace(batch_size=batch, per_class=3, warm_up=epochs / 2)
    monkeypatch.setitem(PUBLISHED, name, short)
    options = {"dataset": dataset, "loss": loss, "pretrained": False}
    task = retrieval(preset="paper", data=tmp_path, **options)._replace(loader_workers=0)
    if dataset != "auto":
        # pictures of noise lie almost equally far: by the usual margin there may be no triplet
        monkeypatch.setattr(retrieval_room, "TRIPLET_MARGIN", 2.0)
        monkeypatch.setattr(retrieval_room, "resnet50", lambda pretrained: bottlenecks())
        splits = {k: replace(v, transform=in_small) for k, v in task.splits.items()}
        task = task._replace(splits=splits)
    whole = trial(task, epochs=epochs)
    start = {name: value.clone() for name, value in trunk(whole).items()}
    record = whole.train()
    assert record["steps"] == 2
    stopped = trial(task, tmp_path / "checkpoints", lambda: True, epochs)
    with pytest.raises(TrialStopped):
        stopped.train()
    resumed = trial(task, tmp_path / "checkpoints", epochs=epochs)
    assert resumed.train()["metrics"] == record["metrics"]
    for name, value in start.items():
        assert torch.equal(trunk(stopped)[name], value)
        assert not torch.equal(trunk(resumed)[name], value)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("dataset", "batchnorm", "frozen"),
    [
        ("cub", "published", True),
        ("cub", "live", False),
        ("sop", "published", False),
        ("sop", "frozen", True),
    ],
)
@pytest.mark.slow
def test_batch_norm_is_frozen_as_published_or_as_chosen(dataset, batchnorm, frozen, tmp_path):
    TINY[dataset](tmp_path)
    options = {"dataset": dataset, "batchnorm": batchnorm, "pretrained": False}
    model = retrieval(preset="paper", data=tmp_path, **options).model()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 53
    assert all(norm.training is not frozen for norm in norms)


def test_missing_pretrained_weights_are_named(tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", fail)
    with pytest.raises(DataError, match=r"resnet50-.*\.pth is missing: no network\. Get it from"):
        embedder.resnet50(pretrained=True)
