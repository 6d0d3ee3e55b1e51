"""Retrieval: embeddings, their losses and scores, what is scale-invariant, and the tasks."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from realdata import DATA, needs
from scipy.io import savemat
from together import together
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from tangential import AdamP, audit
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.retrieval import embedder
from tangential_lab.experiments.retrieval import task as retrieval_room
from tangential_lab.experiments.retrieval.characters import _averaged, _moved
from tangential_lab.experiments.retrieval.embedder import Embedder, MeanAndMaximum
from tangential_lab.experiments.retrieval.photosets import BOTH, GALLERY, QUERY, opened
from tangential_lab.experiments.retrieval.recall import recall
from tangential_lab.experiments.retrieval.task import PUBLISHED, _criterion, _stepped, retrieval
from tangential_lab.training import (
    OPTIMIZERS,
    ProcessShare,
    Spec,
    class_balanced_batches,
    evaluation_batches,
    groups_with_lr_scale,
    training_batches,
)
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped


def small(loss="proxyanchor", classes=6, size=8, trunk=None, **options):
    torch.manual_seed(1)
    trunk = trunk or nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), MeanAndMaximum(), nn.Flatten()
    )
    return Embedder(trunk, 4, size, _criterion(loss, classes, size), **options)


def a_batch(count=12, classes=6, seed=0, side=12):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, side, side, generator=generator)
    return images, torch.arange(count) % classes, torch.full((count,), BOTH)


# ---- the embedder


def test_embeddings_have_length_one():
    embeddings = small()(a_batch()[0])
    assert embeddings.shape == (12, 8)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(12))


def test_proxy_anchor_is_the_published_formula():
    """Kim et al. 2020, equation 4, written out for every proxy."""
    model, (images, labels, _) = small(classes=7), a_batch()  # the last class has no image
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
    model, (images, labels, _) = small("triplet"), a_batch()
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
    model(*a_batch()[:2]).backward()
    assert torch.equal(norm.running_mean, before) is frozen
    assert (norm.weight.grad is None) is frozen
    assert model.trunk[0].weight.grad is not None


def test_warm_up_trains_all_but_the_trunk():
    """Without gradients nothing moves it: no momentum, no decay, coupled or not."""
    model = small(warm_up=2)
    groups = groups_with_lr_scale(model, "criterion", 100.0)
    optimizer = AdamP([p for g in groups for p in g["params"]], lr=0.01, weight_decay=0.1)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(3):
        optimizer.zero_grad()
        model(*a_batch()[:2]).backward()
        optimizer.step()
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, start[n])}
        assert ("trunk.0.weight" in moved) is (step == 2)
        assert {"head.weight", "criterion.proxies"} <= moved
    assert model.steps == 3


def test_the_warm_up_is_a_part_of_the_state():
    model, other = small(warm_up=2), small(warm_up=2)
    for _ in range(2):
        model(*a_batch()[:2])
    other.load_state_dict(model.state_dict())
    other(*a_batch()[:2]).backward()
    assert other.trunk[0].weight.grad is not None


def test_proxies_stay_whole_in_half_precision():
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        model(*a_batch()[:2]).backward()
    assert model.criterion.proxies.dtype == torch.float32


TWO_PROCESSES = """
import torch
from test_retrieval import CASES, a_batch, small, two_steps
from tangential_lab.training.distributed import distribute, make_accelerator
images, labels, _ = a_batch()
half = slice(6 * rank, 6 * rank + 6)
found = {}
for case, options in CASES.items():
    model = small(**options)
    shared = distribute(make_accelerator("no"), model, sharded=False)
    found[case] = two_steps(shared, model, images[half], labels[half])
torch.save(found, sys.argv[1] + str(rank))
"""
LOSSES = ("proxyanchor", "triplet")
CASES = {loss: {"loss": loss, "frozen": True} for loss in LOSSES} | {"held": {"warm_up": 1}}


def two_steps(called, model, images, labels):
    """Losses and the gradients that there are, by the weights' names."""
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.01), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = called(images, labels)
        loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss.item(), grads))
        optimizer.step()
    return found


def test_two_processes_are_one(tmp_path):
    """Pairs across the processes count: the loss and its gradients are those of the whole batch.

    Also where the trunk has no gradients at first.
    """
    together(TWO_PROCESSES, tmp_path / "rank")
    for case, options in CASES.items():
        model = small(**options)
        whole = two_steps(model, model, *a_batch()[:2])
        assert ["trunk.0.weight" in grads for _, grads in whole] == [case != "held", True]
        for rank in (0, 1):
            both = torch.load(tmp_path / f"rank{rank}")[case]
            for (value, grads), (expected, all_grads) in zip(both, whole, strict=True):
                assert value == pytest.approx(expected, rel=1e-5)
                assert set(grads) == set(all_grads)
                for name, grad in all_grads.items():
                    assert torch.allclose(grads[name], grad, rtol=1e-3, atol=1e-5), (case, name)


# ---- the audit's verdict


def residual_net():
    return up_to_features(ResNet(BasicBlock, [1, 1, 1, 1]))


def up_to_features(net):
    net.register_module("avgpool", MeanAndMaximum())
    net.register_module("fc", nn.Identity())
    return net


def pretrained(net):
    """Statistics, scales and shifts as of training; at their start they would do nothing."""
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in (norm.weight.data, norm.running_var):
            values.uniform_(0.5, 2)
        for values in (norm.bias.data, norm.running_mean):
            values.normal_(0, 0.5)
    return net


def audited(frozen):
    torch.manual_seed(1)
    criterion = _criterion("proxyanchor", 4, 16)
    model = Embedder(pretrained(residual_net()), 512, 16, criterion, frozen=frozen, warm_up=5)
    batches = [a_batch(8, 4, seed, side=64) for seed in range(3)]
    loss = lambda model, batch: model(*batch[:2], warm=True)
    return audit(model, batches, loss=loss)


def test_with_frozen_batch_norm_only_proxies_and_the_embedding_are_scale_invariant():
    """Of the embedding it is the whole: a row more or less long turns what is embedded."""
    result = audited(frozen=True)
    assert result.names("row") == ["criterion.proxies"]
    assert result.names("weight") == ["head.weight"]
    assert not result.names("dead")


def test_with_live_batch_norm_convolutions_are_scale_invariant_too():
    result = audited(frozen=False)
    convolutions = [n for n in (line.name for line in result.lines) if "conv" in n or ".0.w" in n]
    assert len(convolutions) == 12
    assert set(result.names("row")) == {"criterion.proxies", *convolutions}
    assert result.names("weight") == ["head.weight"]


def test_a_bias_would_take_the_embeddings_invariance():
    """As in the published code; its weight and bias are scale-invariant together only."""
    model = small(frozen=True)
    model.head = nn.Linear(4, 8)
    result = audit(model, [a_batch(seed=s) for s in range(3)], loss=lambda m, b: m(*b[:2]))
    assert "head.weight" in result.names("variant")


# ---- groups, order, schedule


def test_proxies_have_a_learning_rate_of_their_own():
    model = small(frozen=True)
    others, proxies = groups_with_lr_scale(model, "criterion", 100.0)
    assert proxies["lr_scale"] == 100
    assert [p.shape for p in proxies["params"]] == [(6, 8)]
    assert len(others["params"]) == 2  # neither scale nor shift of the BatchNorm
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


# ---- scores


def by_hand(embeddings, labels, asked, found):
    """Every query's nearest other, one by one."""
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
    roles = torch.full((60,), BOTH)
    halves = zip(embeddings.split(25), labels.split(25), roles.split(25), strict=True)
    expected = by_hand(embeddings, labels, range(60), range(60))
    assert 0.2 < expected < 0.95
    assert recall(list(halves))["recall@1"] == pytest.approx(expected)


def test_queries_are_answered_from_the_gallery():
    embeddings, labels = F.normalize(torch.randn(40, 5)), torch.arange(40) % 4
    roles = torch.tensor([QUERY, QUERY, GALLERY, GALLERY, GALLERY] * 8)
    queries, gallery = ((roles == kind).nonzero().flatten().tolist() for kind in (QUERY, GALLERY))
    expected = by_hand(embeddings, labels, queries, gallery)
    assert expected != by_hand(embeddings, labels, queries, range(40))
    assert recall([(embeddings, labels, roles)])["recall@1"] == pytest.approx(expected)


# ---- mini


def test_drawings_are_averaged():
    bits = np.zeros((1, 105, 105), bool)
    bits[0, :3, 3:6] = 1
    bits[0, 102, 102] = 1
    image = _averaged(bits)[0, 0]
    assert image.shape == (35, 35)
    assert image[0, 1] == 255
    assert image[34, 34] == 28
    assert image.astype(int).sum() == 255 + 28


def test_drawings_are_moved_by_chance_and_stay_there():
    image = torch.zeros(50, 1, 35, 35)
    image[:, :, 15:20, 15:20] = 1
    moved = _moved(image)
    assert moved.shape == image.shape
    assert len({tuple(x.flatten().tolist()) for x in moved}) == 50
    assert (moved.sum((1, 2, 3)) > 10).all()
    assert (moved - image).abs().mean() < 0.06


@needs("omniglot")
def test_raw_pixels_are_as_published():
    """7 x 7 squares averaged: recall@1 is .337 on the classes of the report."""
    split = retrieval(data=DATA).splits["test"]
    images, labels, roles = split.__getitems__(list(range(len(split))))
    pooled = F.avg_pool2d(images, 7, 7) if images.shape[-1] == 105 else F.avg_pool2d(images, 5, 5)
    embeddings = F.normalize(pooled.flatten(1))
    assert recall([(embeddings, labels, roles)])["recall@1"] == pytest.approx(0.337, abs=0.03)


@needs("omniglot")
@pytest.mark.parametrize("loss", LOSSES)
def test_mini_learns(loss):
    """Ten steps on one batch; images, classes and proxies reach the loss."""
    task = retrieval(data=DATA, loss=loss)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 780 * 20,
        "validation": 184 * 20,
        "test": 659 * 20,
    }
    batch = next(training_batches(task, seed=1, first=0, part=ProcessShare()))
    assert batch[0].shape == (task.batch_size, 1, 35, 35)
    counts = batch[1].bincount()
    assert (counts[counts > 0] >= 4).all() or loss == "proxyanchor"
    model = task.model()
    optimizer = AdamP(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        value = task.loss(model, batch)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_missing_and_broken_data_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    refused = lambda *args, **options: (_ for _ in ()).throw(OSError("no network"))
    monkeypatch.setattr(
        "tangential_lab.experiments.retrieval.characters.Omniglot.__init__", refused
    )
    with pytest.raises(DataError, match=r"Omniglot in .* cannot be had: no network.*download=True"):
        retrieval(data=tmp_path)
    (tmp_path / "omniglot").mkdir()
    archive = tmp_path / "omniglot" / "omniglot.npz"
    np.savez(archive, background=np.zeros(9))
    monkeypatch.setattr(
        "tangential_lab.experiments.data.sources.user_cache_path", lambda name: tmp_path / "cache"
    )
    with pytest.raises(DataError, match=r"omniglot\.npz is broken: .*evaluation"):
        retrieval(data=tmp_path)
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(DataError, match=r"omniglot\.npz is broken"):
        retrieval(data=tmp_path)
    for dataset in PUBLISHED:
        with pytest.raises(DataError, match=r"is needed\. Get "):
            retrieval(preset="paper", data=tmp_path, dataset=dataset)


def test_mini_has_live_batch_norm_only(tmp_path):
    with pytest.raises(ValueError, match="batchnorm is 'frozen', allowed with preset 'mini'"):
        retrieval(data=tmp_path, batchnorm="frozen")


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_mini_has_one_data_set(dataset, tmp_path):
    with pytest.raises(ValueError, match=f"dataset is '{dataset}', allowed with preset 'mini' is"):
        retrieval(data=tmp_path, dataset=dataset)


def test_a_data_set_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"dataset must be auto, cub, .* or inshop, got"):
        retrieval(preset="paper", dataset="birds")


# ---- paper, on tiny folders of the same layout


def photographs_in(folder, names):
    for name in names:
        generator = np.random.default_rng(list(name.encode()))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def tiny_cub(home):
    folder = home / "CUB_200_2011"
    names = [f"{c:03}.Bird/Bird_{i}.jpg" for c in (1, 2, 99, 101, 200) for i in range(3)]
    photographs_in(folder / "images", names)
    numbered = list(enumerate(names, 1))
    (folder / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in numbered))
    classes = "".join(f"{i} {int(name[:3])}\n" for i, name in numbered)
    (folder / "image_class_labels.txt").write_text(classes)


def tiny_cars(home):
    folder = home / "cars196"
    names = [f"car_ims/{i:06}.jpg" for i in range(15)]
    photographs_in(folder, names)
    kind = [("relative_im_path", object), ("class", "u1")]
    classes = [1, 2, 98, 99, 196]
    rows = np.array([(name, classes[i // 3]) for i, name in enumerate(names)], kind)
    savemat(folder / "cars_annos.mat", {"annotations": rows[None]})


def tiny_sop(home):
    folder, number = home / "Stanford_Online_Products", 0
    for table, classes in (("Ebay_train.txt", (1, 2, 3)), ("Ebay_test.txt", (11319, 22634))):
        lines = ["image_id class_id super_class_id path"]
        for c in classes:
            for i in range(3):
                number += 1
                photographs_in(folder, [f"sofa_final/{c}_{i}.JPG"])
                lines.append(f"{number} {c} 1 sofa_final/{c}_{i}.JPG")
        (folder / table).write_text("\n".join(lines) + "\n")


def tiny_inshop(home):
    folder = home / "Inshop_Clothes"
    kinds = {1: "train", 2: "train", 5: "train", 7: "query", 8: "query"}
    names = [f"img/WOMEN/id_{c:08}/0{i}_1_front.jpg" for c in kinds for i in range(3)]
    photographs_in(folder / "Img", names)
    lines = [str(len(names)), "image_name item_id evaluation_status"]
    for name in names:
        item, number = name.split("/")[2], name.split("/")[3]
        kind = kinds[int(item[3:])]
        kind = "gallery" if kind == "query" and number > "01" else kind
        lines.append(f"{name} {item} {kind}")
    (folder / "Eval").mkdir()
    (folder / "Eval/list_eval_partition.txt").write_text("\n".join(lines) + "\n")


TINY = {"cub": tiny_cub, "cars": tiny_cars, "sop": tiny_sop, "inshop": tiny_inshop}


@pytest.mark.parametrize("dataset", TINY)
def test_paper_layouts(dataset, tmp_path):
    TINY[dataset](tmp_path)
    task = retrieval(preset="paper", data=tmp_path, dataset=dataset, pretrained=False)
    parts = {name: split.photographs for name, split in task.splits.items()}
    assert {name: len(part.paths) for name, part in parts.items()} == {
        "train": 6,
        "validation": 3,
        "test": 6,
    }
    assert parts["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(parts["test"].labels.unique()) == 2
    used = [set(part.paths) for part in parts.values()]
    assert len(set.union(*used)) == 15
    roles = [QUERY, GALLERY, GALLERY] * 2 if dataset == "inshop" else [BOTH] * 6
    assert parts["test"].roles.tolist() == roles
    images, _, _ = next(iter(evaluation_batches(task, task.splits["test"], ProcessShare())))
    assert images.shape == (6, 3, 224, 224)
    pickle.loads(pickle.dumps(task.splits))  # processes that load batches may need it
    assert task.batch_size == {"cub": 120, "cars": 120, "sop": 180, "inshop": 180}[dataset]
    assert "(2 of 3 training classes; the others tune)" in task.about


def test_the_trunk_is_held_for_the_published_epochs(tmp_path, monkeypatch):
    epochs = {"cub": 5, "cars": 5, "sop": 1, "inshop": 1}
    assert {name: published.warm_up for name, published in PUBLISHED.items()} == epochs
    tiny_sop(tmp_path)
    monkeypatch.setitem(PUBLISHED, "sop", PUBLISHED["sop"]._replace(batch_size=3))
    task = retrieval(preset="paper", data=tmp_path, dataset="sop", pretrained=False)
    assert task.model().warm_up == 2  # batches of 3 from 6 photographs
    assert task.frozen_epochs == 1


def trial(task, epochs, folder=None, stop=bool):
    spec = Spec("adamp", "test", 1000, tuple(task.published["adam"].items()))
    run = TrialOptions(epochs=epochs, folder=folder, stop=stop)
    return Trial(task, OPTIMIZERS["adamp"], spec, run)


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
def test_paper_steps_stops_and_resumes(dataset, loss, batch, epochs, tmp_path, monkeypatch):
    """Two steps of ResNet-50, and one and another after a stop, end in the same weights.

    The first is warm-up: a resumed trial must know that it is over. BatchNorm is frozen for CUB,
    which "auto" is, and live for SOP, which is seen small by a ResNet-14: that takes less time.
    """
    name = "cub" if dataset == "auto" else dataset
    TINY[name](tmp_path)
    short = PUBLISHED[name]._replace(batch_size=batch, each=3, warm_up=epochs / 2)
    monkeypatch.setitem(PUBLISHED, name, short)
    options = {"dataset": dataset, "loss": loss, "pretrained": False}
    task = retrieval(preset="paper", data=tmp_path, **options)._replace(loader_workers=0)
    if dataset != "auto":
        # pictures of noise lie almost equally far: by the usual margin there may be no triplet
        monkeypatch.setattr(retrieval_room, "TRIPLET_MARGIN", 2.0)
        monkeypatch.setattr(retrieval_room, "resnet50", lambda pretrained: bottlenecks())
        splits = {k: replace(v, transform=in_small) for k, v in task.splits.items()}
        task = task._replace(splits=splits)
    whole = trial(task, epochs)
    start = {name: value.clone() for name, value in trunk(whole).items()}
    record = whole.train()
    assert record["steps"] == 2
    stopped = trial(task, epochs, tmp_path / "checkpoints", stop=lambda: True)
    with pytest.raises(TrialStopped):
        stopped.train()
    resumed = trial(task, epochs, tmp_path / "checkpoints")
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
def test_batch_norm_is_frozen_as_published_or_as_told(dataset, batchnorm, frozen, tmp_path):
    TINY[dataset](tmp_path)
    options = {"dataset": dataset, "batchnorm": batchnorm, "pretrained": False}
    model = retrieval(preset="paper", data=tmp_path, **options).model()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 53
    assert all(norm.training is not frozen for norm in norms)


def test_weights_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", fail)
    with pytest.raises(DataError, match=r"resnet50-.*\.pth is missing: no network\. Get it from"):
        embedder.resnet50(pretrained=True)


def test_a_missing_or_broken_photograph_is_named(tmp_path):
    tiny_cub(tmp_path)
    victim = tmp_path / "CUB_200_2011/images/001.Bird/Bird_1.jpg"
    victim.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"Bird_1\.jpg cannot be read as a picture"):
        opened(victim)
    victim.unlink()
    with pytest.raises(DataError, match=r"Bird_1\.jpg is missing, and listed in"):
        retrieval(preset="paper", data=tmp_path, pretrained=False)


@pytest.mark.parametrize("size", [0, 100, 150, 300])
def test_broken_annotations_are_named(size, tmp_path):
    tiny_cars(tmp_path)
    notes = tmp_path / "cars196/cars_annos.mat"
    notes.write_bytes(notes.read_bytes()[:size])
    with pytest.raises(DataError, match=r"cars_annos\.mat is no file of annot.*Get car_ims"):
        retrieval(preset="paper", data=tmp_path, dataset="cars", pretrained=False)


@pytest.mark.parametrize(
    ("dataset", "table", "old", "new", "expected"),
    [
        ("cub", "CUB_200_2011/image_class_labels.txt", "4 2\n", "", "a class for each number"),
        ("cub", "CUB_200_2011/image_class_labels.txt", "4 2", "4 two", "a class for each number"),
        ("sop", "Stanford_Online_Products/Ebay_train.txt", "1 1 1", "1 a 1", "table of image_id"),
        ("inshop", "Inshop_Clothes/Eval/list_eval_partition.txt", "id_", "id", "of image_name"),
        ("inshop", "Inshop_Clothes/Eval/list_eval_partition.txt", "train", "set", "of image_name"),
        ("inshop", "Inshop_Clothes/Eval/list_eval_partition.txt", "img", "\xe9", "text in UTF-8"),
    ],
)
def test_a_table_of_another_content_is_named(dataset, table, old, new, expected, tmp_path):
    """Above all one that lacks a line: all classes after it would be wrong."""
    TINY[dataset](tmp_path)
    path = tmp_path / table
    path.write_text(path.read_text().replace(old, new), "latin-1")
    with pytest.raises(DataError, match=rf"{path.name} is no .*{expected}.*: .*Get "):
        retrieval(preset="paper", data=tmp_path, dataset=dataset, pretrained=False)


def test_grey_photographs_get_colours(tmp_path):
    Image.fromarray(np.full((5, 5), 100, np.uint8)).save(tmp_path / "grey.png")
    assert np.asarray(opened(tmp_path / "grey.png")).shape == (5, 5, 3)


def test_a_broken_list_is_named(tmp_path):
    tiny_cub(tmp_path)
    table = tmp_path / "CUB_200_2011/images.txt"
    table.write_text(table.read_text() + "16 two words.jpg\n")
    with pytest.raises(DataError, match=r"images\.txt, line 16: allowed are 2 words"):
        retrieval(preset="paper", data=tmp_path, pretrained=False)
