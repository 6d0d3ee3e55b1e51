"""Embeddings, their losses, warm-up and frozen BatchNorm."""

import pytest
import torch
from embedders import LOSSES, a_batch, small
from processes import together
from torch.nn import functional as F

from tangential import AdamP
from tangential_lab.training import groups_with_lr_scale


def test_embeddings_have_length_one():
    embeddings = small()(a_batch()[0])
    assert embeddings.shape == (12, 8)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(12))


def test_a_bias_begins_at_zero_and_moves_embeddings():
    model, plain = small(bias=True), small()
    plain.load_state_dict(model.state_dict(), strict=False)
    images, labels = a_batch()
    assert torch.equal(model.head.bias, torch.zeros(8))
    assert torch.equal(model(images), plain(images))
    model(images, labels).backward()
    assert model.head.bias.grad.abs().min() > 0
    assert plain.head.bias is None


def test_proxy_anchor_is_the_published_formula():
    """Kim et al. 2020, equation 4, written out for every proxy."""
    model, (images, labels) = small(classes=7), a_batch()  # the last class has no image
    embeddings = model(images)
    cosines = embeddings @ F.normalize(model.criterion.proxies).T
    near = far = 0.0
    for proxy in range(7):
        positive, negative = cosines[labels == proxy, proxy], cosines[labels != proxy, proxy]
        near += torch.log1p(torch.exp(-32 * (positive - 0.1)).sum()) / 6
        far += torch.log1p(torch.exp(32 * (negative + 0.1)).sum()) / 7
    assert model(images, labels).item() == pytest.approx((near + far).item(), rel=1e-5)


def test_triplets_are_semi_hard():
    """Mean over triplets whose negative is farther than the positive by less than the margin."""
    model, (images, labels) = small("triplet"), a_batch()
    distances = torch.cdist(model(images), model(images))
    terms = [
        0.2 + distances[a, p] - distances[a, n]
        for a in range(12)
        for p in range(12)
        for n in range(12)
        if a != p
        and labels[a] == labels[p] != labels[n]
        and 0 < distances[a, n] - distances[a, p] < 0.2
    ]
    assert len(terms) > 10
    assert model(images, labels).item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_stays_frozen(frozen):
    model = small(frozen=frozen)
    norm = model.trunk[1]
    model.eval()
    model.train()
    assert model.training
    assert model.trunk[0].training
    assert norm.training is not frozen
    before = norm.running_mean.clone()
    model(*a_batch()).backward()
    assert torch.equal(norm.running_mean, before) is frozen
    assert (norm.weight.grad is None) is frozen
    assert model.trunk[0].weight.grad is not None


def test_warm_up_trains_all_but_the_trunk():
    """Without gradients nothing moves the trunk: no momentum and no kind of decay."""
    model = small(warm_up=2)
    groups = groups_with_lr_scale(model, "criterion", 100.0)
    optimizer = AdamP([p for g in groups for p in g["params"]], lr=0.01, weight_decay=0.1)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(3):
        optimizer.zero_grad()
        model(*a_batch()).backward()
        optimizer.step()
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, start[n])}
        assert ("trunk.0.weight" in moved) is (step == 2)
        assert {"head.weight", "criterion.proxies"} <= moved
    assert model.steps == 3


def test_the_warm_up_is_a_part_of_the_state():
    model, other = small(warm_up=2), small(warm_up=2)
    for _ in range(2):
        model(*a_batch())
    other.load_state_dict(model.state_dict())
    other(*a_batch()).backward()
    assert other.trunk[0].weight.grad is not None


def test_proxies_stay_whole_in_half_precision():
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        model(*a_batch()).backward()
    assert model.criterion.proxies.dtype == torch.float32


TWO_PROCESSES = """
import torch
from embedders import a_batch, small
from test_embedder import CASES, two_steps
from tangential_lab.training.distributed import distribute, make_accelerator
images, labels = a_batch()
half = slice(6 * rank, 6 * rank + 6)
found = {}
for case, options in CASES.items():
    model = small(**options)
    shared = distribute(make_accelerator("no"), model, sharded=False)
    found[case] = two_steps(shared, model, images[half], labels[half])
torch.save(found, sys.argv[1] + str(rank))
"""
CASES = {loss: {"loss": loss, "frozen": True} for loss in LOSSES} | {"held": {"warm_up": 1}}


def two_steps(called, model, images, labels):
    """Losses, and the gradients by the names of the weights that have one."""
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.01), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = called(images, labels)
        loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss.item(), grads))
        optimizer.step()
    return found


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """Pairs across the processes count: the loss and its gradients are those of the whole batch.

    Also where the trunk has no gradients at first.
    """
    together(TWO_PROCESSES, tmp_path / "rank")
    for case, options in CASES.items():
        model = small(**options)
        whole = two_steps(model, model, *a_batch())
        assert ["trunk.0.weight" in grads for _, grads in whole] == [case != "held", True]
        for rank in (0, 1):
            both = torch.load(tmp_path / f"rank{rank}")[case]
            for (value, grads), (expected, all_grads) in zip(both, whole, strict=True):
                assert value == pytest.approx(expected, rel=1e-5)
                assert set(grads) == set(all_grads)
                for name, grad in all_grads.items():
                    assert torch.allclose(grads[name], grad, rtol=1e-3, atol=1e-5), (case, name)
