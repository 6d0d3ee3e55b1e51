"""Tinted digits, the nets and the loss of ReBias, and how unbiased they are found."""

import math
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from realdata import DATA, needs
from rehearsal import count, rehearse
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from tangential_lab.experiments.bias import nine_classes, rebias, tints
from tangential_lab.experiments.bias.hsic import dependence
from tangential_lab.experiments.bias.task import bias
from tangential_lab.experiments.data import folders, images
from tangential_lab.experiments.data.sources import DataError


@pytest.fixture
def digits(home):
    """MNIST in the layout of the data sets, with 200 digits to train and 20 to test."""
    drawn = np.random.default_rng(0)
    (home / "mnist").mkdir()
    np.savez(
        home / "mnist/mnist.npz",
        train_images=drawn.integers(256, size=(200, 28, 28), dtype=np.uint8),
        train_labels=np.arange(200, dtype=np.uint8) % 10,
        test_images=drawn.integers(256, size=(20, 28, 28), dtype=np.uint8),
        test_labels=np.arange(20, dtype=np.uint8) % 10,
    )
    return home


# ---- HSIC


def kernel(z, width=1.0):
    return torch.exp(-(torch.cdist(z, z) ** 2) / (2 * width**2))


def pairs(n, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    x = 0.7 * torch.randn(n, 3, generator=drawn, dtype=torch.float64)
    return x, x[:, :2] + 0.5 * torch.randn(n, 2, generator=drawn, dtype=torch.float64)


@pytest.mark.parametrize("estimate", ["unbiased", "published"])
def test_hsic_is_the_mean_over_all_ordered_quadruples(estimate):
    x, y = pairs(7)
    k, other = kernel(x), kernel(y)
    each = [
        k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
        for i, j, q, r in permutations(range(7), 4)
    ]
    torch.testing.assert_close(dependence(x, y, estimate=estimate), sum(each) / len(each))


def test_hsic_of_four_pairs_by_hand():
    # the only kernel values: a for the first two, which are alike, else nearly 0
    x = torch.tensor([[0.0], [1.0], [100.0], [200.0]], dtype=torch.float64)
    a = math.exp(-0.5)
    # K and L have a at (1, 2) and (2, 1): (2 a^2 + (2a)^2 / 6 - 2 * 2 a^2 / 2) / 4
    assert dependence(x, x).item() == pytest.approx(a * a / 6)


def test_hsic_is_zero_on_average_where_nothing_depends():
    drawn = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2000, 12, 2, generator=drawn, dtype=torch.float64)
    each = torch.stack([dependence(a, b) for a, b in zip(x, y, strict=True)])
    assert abs(each.mean()) < 4 * each.std() / math.sqrt(len(each))
    same = torch.stack([dependence(a, a) for a in x[:100]])
    assert same.mean() > 5 * each.std()


def test_the_median_width_ignores_the_scale():
    x, y = pairs(20)
    at = dependence(x, y, width="median")
    torch.testing.assert_close(dependence(50 * x, 0.01 * y, width="median"), at)
    root = (torch.cdist(x, x) ** 2).median().sqrt().item()
    torch.testing.assert_close(dependence(x, x, width=root), dependence(x, x, width="median"))


def test_the_published_diagonal_changes_rounding_alone():
    x, y = (z.float() for z in pairs(256))
    mine, published = (dependence(x, y, estimate=e) for e in ("unbiased", "published"))
    torch.testing.assert_close(mine, published, rtol=1e-3, atol=0)
    assert dependence(x, y).dtype == torch.float32


def test_hsic_keeps_its_precision_under_autocast():
    x, y = (z.float() for z in pairs(64))
    with torch.autocast("cpu", torch.bfloat16):
        inside = dependence(x, y)
    assert torch.equal(inside, dependence(x, y))


def test_hsic_of_too_few_pairs_is_refused():
    with pytest.raises(ValueError, match="there are 3 pairs, allowed are 4"):
        dependence(*pairs(3))


# ---- the nets


def test_the_nets_for_digits_have_the_published_shape():
    def weights(area):  # 3-16-32-64-128 with biases, BatchNorms, and ten classes
        convolutions = area * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 128) + 240
        return convolutions + 2 * 240 + 128 * 10 + 10

    assert count(rebias.stacked(7)) == weights(49) == 531_210
    assert count(rebias.stacked(1)) == weights(1) == 12_810


def test_a_net_of_kernel_one_is_blind_to_shape():
    x = torch.rand(4, 3, 14, 14)
    mixed = x.flatten(2)[:, :, torch.randperm(196)].view_as(x)
    for kernel_size, blind in ((1, True), (7, False)):
        net = rebias.stacked(kernel_size, 8).eval()
        logits = net(x)[0], net(mixed)[0]
        assert torch.allclose(*logits, atol=1e-5) is blind


def test_bagnet_sees_five_pixels_across():
    net = rebias.bagnet18(9).eval()
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    features = net.body(x)
    assert features.shape[:2] == (1, 512)
    features[0, :, 3, 2].sum().backward()
    rows, columns = x.grad[0].abs().sum(0).nonzero().T
    assert (rows.min(), rows.max()) == (24, 28)  # eight pixels from one patch to the next
    assert (columns.min(), columns.max()) == (16, 20)


def test_bagnet_has_the_weights_of_its_layers():
    stem = 3 * 64 + 9 * 64 * 64 + 2 * 64

    def block(inputs, outputs, area, projected):
        convolutions = area * inputs * outputs + outputs * outputs + projected * inputs * outputs
        return convolutions + 2 * outputs * (2 + projected)

    stages = [(64, 64, 9), (64, 128, 1), (128, 256, 1), (256, 512, 1)]
    blocks = sum(block(i, o, area, 1) + block(o, o, 1, 0) for i, o, area in stages)
    assert count(rebias.bagnet18(9)) == stem + blocks + 9 * 512 + 9
    assert count(rebias.featured_resnet18(1000)) == 11_689_512  # torchvision's


def test_the_featured_resnet_is_torchvisions():
    mine, theirs = rebias.featured_resnet18(9).eval(), resnet18(num_classes=9).eval()
    mine.load_state_dict(dict(zip(mine.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(mine(x)[0], theirs(x))


# ---- the loss


def test_either_net_minimises_its_own_loss(digits):
    task = bias(data=digits)
    batch = task.splits["train"].__getitems__(list(range(32)))
    torch.manual_seed(0)
    pair = task.model()
    inputs, labels = batch[0], batch[1][:, 0]

    def gradients(module, loss):
        pair.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in module.parameters()]

    def losses():
        (f_logits, f), (g_logits, g) = pair(inputs)
        apart = dependence(f, g)
        return cross_entropy(f_logits, labels) + apart, cross_entropy(g_logits, labels) - apart

    wanted = gradients(pair.f, losses()[0]), gradients(pair.g, losses()[1])
    loss = task.loss(pair, batch)
    got = gradients(pair, loss)
    torch.testing.assert_close(got, [*wanted[0], *wanted[1]])
    torch.testing.assert_close(loss, sum(losses()))


def test_both_methods_start_from_the_same_net(digits):
    models = []
    for method in ("rebias", "plain"):
        torch.manual_seed(3)
        models.append(bias(data=digits, method=method).model())
    pair, alone = models
    assert all(
        torch.equal(p, q) for p, q in zip(pair.f.parameters(), alone.parameters(), strict=True)
    )


# ---- tinted digits


def table(labels, given):
    """How many digits of every class have every colour."""
    counts = np.zeros((10, 10))
    np.add.at(counts, (labels, given), 1)
    return counts


def test_every_class_has_its_colour_for_a_share_of_its_digits():
    labels = np.repeat(np.arange(10), 1000)
    given = tints.colours(labels, 0.991)
    assert np.array_equal(table(labels, given), 1 + 990 * np.eye(10))
    assert (table(labels, tints.colours(labels, tints.UNIFORM)) == 100).all()


def test_ink_is_white_and_paper_coloured():
    digit = np.array([[[[0, 3], [255, 0]]]], np.uint8)
    made = tints.tinted(digit, np.array([6]))
    assert made.dtype == np.uint8
    assert made[0, :, 0, 0].tolist() == made[0, :, 1, 1].tolist() == [255, 128, 0]
    assert made[0, :, 0, 1].tolist() == made[0, :, 1, 0].tolist() == [255, 255, 255]
    assert tints.halved(made)[0, :, 0, 0].tolist() == [255, 192, 128]


@needs("mnist")
def test_the_splits_of_mnist_are_tinted_as_they_say():
    source = images.mnist(DATA)
    assert len(source.train) == 60_000
    assert source.train_labels[:5].tolist() == [5, 0, 4, 1, 9]  # MNIST's first digits
    task = bias(data=DATA, rho=0.99)
    sizes = {name: len(split) for name, split in task.splits.items()}
    assert sizes == {"train": 10_000, "validation": 2_000, "test": 8_000}
    split = task.splits["train"]
    own = torch.tensor(tints.COLOURS)[split.labels[:, 0]].view(-1, 3, 1, 1)
    on_own = (split.inputs == own).all(1).flatten(1).any(1)  # somewhere there is no ink
    assert on_own.float().mean().item() == pytest.approx(0.99, abs=1e-3)


def test_scores_tell_the_test_sets_apart(digits):
    logits = 9 * torch.eye(10)[[0, 1, 2, 3]]
    labels = torch.tensor([[0, 0], [1, 0], [9, 0], [9, 1]])
    scores = bias(data=digits).score([(logits[:2], labels[:2]), (logits[2:], labels[2:])])
    assert scores["unbiased accuracy"] == pytest.approx(2 / 3)
    assert scores["biased accuracy"] == 0
    tuned = bias(data=digits).score([(logits[:3], labels[:3])])
    assert set(tuned) == {"unbiased accuracy", "loss"}


@pytest.mark.parametrize("method", ["rebias", "plain"])
@pytest.mark.parametrize("preset", ["mini", "paper"])
def test_digits_are_trained_on_a_folder_of_their_layout(digits, tmp_path, method, preset):
    task = bias(preset=preset, data=digits, method=method)._replace(batch_size=8)
    assert task.splits["train"].__getitems__([0])[0].shape[2] == (10 if preset == "mini" else 28)
    found = rehearse(task, tmp_path)["test"]
    assert set(found) == {"unbiased accuracy", "biased accuracy", "loss"}


def test_the_published_setting_is_kept(digits):
    task = bias(preset="paper", data=digits)
    assert (task.batch_size, task.epochs) == (256, 80)
    assert task.published["adam"] == {"lr": 1e-3, "weight_decay": 1e-4}
    rates = [task.schedule(epoch / 80) for epoch in (0, 19, 20, 39, 40, 59, 60, 79)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    with torch.device("meta"):
        assert count(task.model()) == 531_210 + 12_810


def test_digits_in_torchvisions_layout_are_found(home):
    raw = home / "MNIST/raw"
    raw.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    for name, size in (("train", 40), ("t10k", 10)):
        pixels = drawn.integers(256, size=(size, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (size, 28, 28))
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = np.arange(size, dtype=np.uint8) % 10
        header = bytes([0, 0, 8, 1]) + size.to_bytes(4, "big")
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    source = images.mnist(home, whole=True)
    assert source.train.shape == (40, 1, 28, 28)
    assert np.array_equal(source.test[:, 0], pixels)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is missing"):
        images.mnist(home, whole=True)


# ---- nine classes of ImageNet

# ImageNet-A has some of the classes, and none of a crab
HARD = [name for name, label in nine_classes.CLASSES.items() if label != 7][::2]


@pytest.fixture
def animals(home):
    """The layout of ImageNet, of its textures' table and of ImageNet-A, one or two of a class."""
    lines = ["path,category,cluster1,cluster2,cluster3"]
    for i, name in enumerate(nine_classes.CLASSES):
        lines.append(f"{name}/val_{i}.JPEG,any,{i % 9},{i % 2},0")
        seen = [f"imagenet/train/{name}/{letter}.JPEG" for letter in "ab"]
        hard = [f"imagenet-a/{name}/hard.jpg"] if name in HARD else []
        for path in (*seen, f"imagenet/val/{name}/val_{i}.JPEG", *hard):
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 40), (6 * i, 99, 0)).save(home / path)
    for other in ("imagenet/train/n01440764", "imagenet-a/n01498041"):
        (home / other).mkdir()  # another class is none of the nine
    (home / "imagenet" / nine_classes.CLUSTERS).write_text("\n".join(lines))
    return home


def test_photographs_have_class_test_set_and_textures(animals):
    _, splits = nine_classes.splits(animals)
    assert len(nine_classes.CLASSES) == 42
    assert len(HARD) == 19
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [82, 2, 42 + 19]
    order = sorted(nine_classes.CLASSES)
    rows = splits["test"].labels
    for i in (0, 20, 41):
        number = list(nine_classes.CLASSES).index(order[i])
        label = nine_classes.CLASSES[order[i]]
        assert rows[i].tolist() == [label, 0, number % 9, number % 2, 0]
    hard = [[nine_classes.CLASSES[name], 1, 0, 0, 0] for name in sorted(HARD)]
    assert rows[42:].tolist() == hard
    batch, labels = splits["test"].__getitems__([41, 42])
    assert batch.shape == (2, 3, 224, 224)
    assert labels.tolist() == rows[41:43].tolist()


def test_animals_are_trained_on_a_folder_of_their_layout(animals, tmp_path, monkeypatch):
    few = dict(list(nine_classes.CLASSES.items())[::14])
    monkeypatch.setattr(nine_classes, "CLASSES", few)  # photographs of 224 x 224 take their time
    for look in ("training_look", "middle_look"):
        monkeypatch.setattr(nine_classes, look, partial(getattr(folders, look), 64))
    task = bias(preset="paper", source="imagenet", data=animals)
    assert (task.batch_size, task.epochs) == (128, 120)
    scores = rehearse(task._replace(batch_size=4, loader_workers=0), tmp_path)
    assert set(scores["validation"]) == {"unbiased accuracy", "biased accuracy", "loss"}
    assert set(scores["test"]) == {*scores["validation"], "ImageNet-A accuracy"}


def test_unbiased_is_the_mean_over_classes_and_textures(animals):
    task = bias(preset="paper", source="imagenet", data=animals)
    # class 0: ten of texture 0, all right; ten of texture 1, all wrong; class 1: five, too few
    labels = torch.zeros(25, 5, dtype=torch.int64)
    labels[10:20, 2:] = 1
    labels[20:, 0] = 1
    guesses = torch.tensor([0] * 10 + [1] * 10 + [1] * 5)
    hard = torch.tensor([[3, 1, 0, 0, 0]] * 4)
    logits = torch.eye(9)[torch.cat([guesses, torch.tensor([3, 0, 0, 0])])]
    scores = task.score([(logits, torch.cat([labels, hard]))])
    assert scores["unbiased accuracy"] == pytest.approx(0.5)
    assert scores["biased accuracy"] == pytest.approx(15 / 25)
    assert scores["ImageNet-A accuracy"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("imagenet/9class_imagenet_val.csv", r"9class_imagenet_val\.csv is missing.*rebias"),
        ("imagenet/val/n02085620", r"val is not complete.*n02085620.*image-net"),
        ("imagenet-a/n02085620/hard.jpg", r"imagenet-a is not complete.*n02085620.*natural-adv"),
        ("imagenet-a", r"no folder 'imagenet-a'.*natural-adv-examples"),
    ],
)
def test_what_is_missing_is_named(animals, gone, message):
    (animals / gone).rename(animals / "elsewhere")
    with pytest.raises(DataError, match=message):
        bias(preset="paper", source="imagenet", data=animals)


def test_imagenet_a_without_any_of_the_classes_is_named(animals):
    for name in HARD:
        (animals / "imagenet-a" / name).rename(animals / name)
    with pytest.raises(DataError, match=r"imagenet-a has no folder of a class.*natural-adv"):
        bias(preset="paper", source="imagenet", data=animals)


@pytest.mark.parametrize(
    "content",
    ["one,two\n1,2\n", "path,cluster1,cluster2,cluster3\na,1,2\n", "path,cluster1\n\0,x\n"],
    ids=["other columns", "a short line", "no numbers"],
)
def test_another_table_is_named_and_what_it_should_be(animals, content):
    (animals / "imagenet" / nine_classes.CLUSTERS).write_text(content)
    wanted = r"val\.csv is no table with columns path, cluster1, cluster2, cluster3.*rebias"
    with pytest.raises(DataError, match=wanted):
        bias(preset="paper", source="imagenet", data=animals)


def test_a_photograph_without_textures_is_named(animals):
    table = animals / "imagenet" / nine_classes.CLUSTERS
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match=r"has no line for n02219486/val_41\.JPEG"):
        bias(preset="paper", source="imagenet", data=animals)


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"rho is 1\.5, allowed is from 0\.1"):
        bias(rho=1.5)
    with pytest.raises(ValueError, match="source is 'imagenet', allowed with preset 'mini'"):
        bias(source="imagenet")
