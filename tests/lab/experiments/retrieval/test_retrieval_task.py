"""The retrieval task: groups, order, schedule, scores, and training on tiny folders."""

import pytest
import torch
from embedders import small
from torch.nn import functional as F

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.retrieval.photosets import BOTH, GALLERY, QUERY
from tangential_lab.experiments.retrieval.task import (
    PUBLISHED,
    _stepped,
    recall,
    retrieval,
)
from tangential_lab.training import class_balanced_batches, groups_with_lr_scale


def test_proxies_have_their_own_learning_rate():
    model = small(frozen=True)
    others, proxies = groups_with_lr_scale(model, "criterion", 100.0)
    assert proxies["lr_scale"] == 100
    assert [p.shape for p in proxies["params"]] == [(6, 8)]
    assert len(others["params"]) == 2  # without scales and shifts of BatchNorm
    assert len(groups_with_lr_scale(small("triplet"), "criterion", 100.0)) == 1


@pytest.mark.parametrize("each", [2, 4])
def test_balanced_batches(each):
    labels = torch.tensor([0] * 9 + [1] * 8 + [2] * 3 + [3] * 16)[torch.randperm(36)]
    batches = list(class_balanced_batches(labels, each, 36, 8, torch.Generator().manual_seed(1)))
    for batch in batches:
        assert len(batch) == 8
        assert all(len(own.unique()) == 1 for own in labels[batch].split(each))
    used = torch.cat(batches)
    assert len(used.unique()) == len(used)
    assert len(batches) == {2: 34 // 8, 4: 32 // 8}[each]
    again = list(class_balanced_batches(labels, each, 36, 8, torch.Generator().manual_seed(1)))
    other = list(class_balanced_batches(labels, each, 36, 8, torch.Generator().manual_seed(2)))
    assert torch.equal(used, torch.cat(again))
    assert not torch.equal(used, torch.cat(other))


def test_published_steps():
    shares = [_stepped(PUBLISHED["cub"], epoch / 60) for epoch in (0, 4.99, 5, 10, 59.9)]
    assert shares == [1, 1, 0.5, 0.25, 0.5**11]
    assert _stepped(PUBLISHED["sop"], 21 / 60) == 0.25


def by_hand(embeddings, labels, asked, found):
    """The nearest other image of every query, one by one."""
    hits = 0
    for i in asked:
        others = [j for j in found if j != i]
        nearest = max(others, key=lambda j: float(embeddings[i] @ embeddings[j]))
        hits += int(labels[i] == labels[nearest])
    return hits / len(asked)


def test_recall_is_that_of_the_nearest_other():
    embeddings = F.normalize(torch.randn(60, 5))
    labels = torch.arange(60) % 6
    embeddings = F.normalize(embeddings + 1.0 * F.one_hot(labels, 6)[:, :5])
    rows = torch.stack([labels, torch.full_like(labels, BOTH)], 1)
    batches = zip(embeddings.split(25), rows.split(25), strict=True)
    expected = by_hand(embeddings, labels, range(60), range(60))
    assert 0.2 < expected < 0.95
    assert recall(list(batches))["recall@1"] == pytest.approx(expected)


def test_queries_are_answered_from_the_gallery():
    embeddings, labels = F.normalize(torch.randn(40, 5)), torch.arange(40) % 4
    roles = torch.tensor([QUERY, QUERY, GALLERY, GALLERY, GALLERY] * 8)
    queries, gallery = ((roles == kind).nonzero().flatten().tolist() for kind in (QUERY, GALLERY))
    expected = by_hand(embeddings, labels, queries, gallery)
    assert expected != by_hand(embeddings, labels, queries, range(40))
    assert recall([(embeddings, torch.stack([labels, roles], 1))])["recall@1"] == expected


def test_missing_data_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    refused = lambda *args, **options: (_ for _ in ()).throw(OSError("no network"))
    monkeypatch.setattr(
        "tangential_lab.experiments.retrieval.characters.Omniglot.__init__", refused
    )
    with pytest.raises(DataError, match=r"cannot read .* as Omniglot: .*no network.*download=True"):
        retrieval(data=tmp_path)
    for dataset in PUBLISHED:
        with pytest.raises(DataError, match=r"has no folder .*: pass --data DIR .*[. ][Gg]et "):
            retrieval(preset="paper", data=tmp_path, dataset=dataset)


def test_mini_has_live_batch_norm_only(tmp_path):
    with pytest.raises(
        ValueError, match="batchnorm must be 'live' with preset 'mini', got 'frozen'"
    ):
        retrieval(data=tmp_path, batchnorm="frozen")


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_mini_has_one_data_set(dataset, tmp_path):
    with pytest.raises(
        ValueError, match=f"dataset must be 'auto' with preset 'mini', got '{dataset}'"
    ):
        retrieval(data=tmp_path, dataset=dataset)


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match=r"dataset must be auto, cub, .* or inshop, got"):
        retrieval(preset="paper", dataset="birds")
