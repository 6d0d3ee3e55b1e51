"""The photographs, how they are varied, and the nets that classify them."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from realdata import DATA, needs
from rehearsal import count, rehearse, trained
from torchvision import datasets

from tangential_lab.experiments.data import folders, images
from tangential_lab.experiments.data.augment import CutMixed, mirrored, scaled, shifted
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.imagenet.resnet_cifar import resnet20
from tangential_lab.experiments.imagenet.task import imagenet
from tangential_lab.training import TensorSplit


def photograph(path, colour, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def tiny(home):
    """ImageNet's layout, with two classes and ten photographs."""
    for label, name in enumerate(("n01440764", "n01443537")):
        for i in range(4):
            photograph(home / f"imagenet/train/{name}/{name}_{i}.JPEG", (250 * label, 60 * i, 9))
        photograph(home / f"imagenet/val/{name}/ILSVRC2012_val_0000000{label}.JPEG", (200, 9, 9))
    return home


# ---- the nets


def test_the_net_for_cifar_has_the_weights_of_its_paper():
    net = resnet20()
    convolutions = 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864  # layer by layer
    norms, head = 2 * (7 * 16 + 6 * 32 + 6 * 64), 64 * 10 + 10
    assert count(net) == convolutions + norms + head == 269_722  # "0.27 M" in table 6
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 19


def test_the_shortcut_keeps_every_second_pixel_and_adds_channels_of_zeros():
    block = resnet20()[6]  # the first of the second stage
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert out.shape == (2, 32, 4, 4)
    assert not out[:, 16:].any()


@pytest.mark.parametrize(
    ("net", "millions"), [("resnet18", 11.69), ("resnet50", 25.56), ("mobilenet_v2", 3.50)]
)
def test_the_nets_of_the_paper_are_the_published_ones(tiny, net, millions):
    model = imagenet(preset="paper", data=tiny, net=net).model
    with torch.device("meta"):
        assert round(count(model(num_classes=1000)) / 1e6, 2) == millions


# ---- what is changed by chance


def test_an_image_is_moved_by_every_distance_within_the_margin():
    batch = torch.zeros(4000, 1, 9, 9, dtype=torch.uint8)
    batch[:, 0, 4, 4] = 7
    places = shifted(batch, margin=2).nonzero()[:, 2:]
    assert len(places) == 4000  # the margin is black, and nothing is moved out of sight
    seen, times = places.unique(dim=0, return_counts=True)
    assert {tuple(place) for place in seen.tolist()} == {
        (y, x) for y in range(2, 7) for x in range(2, 7)
    }
    assert times.min() > 4000 / 25 / 2


def test_a_moved_image_is_a_part_of_itself():
    batch = torch.arange(2 * 3 * 64, dtype=torch.uint8).reshape(2, 3, 8, 8)
    for before, after in zip(batch, shifted(batch, margin=1), strict=True):
        framed = torch.nn.functional.pad(before, (1, 1, 1, 1))
        parts = [framed[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        assert sum(torch.equal(after, part) for part in parts) == 1


def test_half_of_the_images_are_mirrored():
    batch = torch.arange(1000 * 12).reshape(1000, 1, 3, 4)
    changed = mirrored(batch)
    same = (changed == batch).flatten(1).all(1)
    assert torch.equal(changed[~same], batch[~same].flip(3))
    assert 400 < same.sum() < 600


def test_bytes_become_numbers_with_channels_last():
    batch = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    numbers = scaled(batch, mean=0.5, deviation=0.25)
    torch.testing.assert_close(numbers, (batch / 255 - 0.5) / 0.25)
    assert numbers.is_contiguous(memory_format=torch.channels_last)


def test_the_label_of_a_cut_image_has_the_shares_of_its_pixels():
    labels = torch.arange(6)
    flat = labels.float().view(6, 1, 1, 1).expand(6, 1, 20, 20).contiguous()
    mixed = CutMixed(TensorSplit(flat, labels), classes=6)
    kept = []
    for _ in range(20):
        inputs, shares = mixed.__getitems__(list(range(6)))
        pixels = torch.stack([(inputs == c).float().mean((1, 2, 3)) for c in range(6)], 1)
        torch.testing.assert_close(pixels, shares)
        kept.append(shares.max().item())
    assert min(kept) < 0.8  # images are in fact cut


def test_a_seed_decides_a_batch(tiny):
    split = imagenet(preset="paper", data=tiny, cutmix=True).splits["train"]
    batches = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        batches.append(split.__getitems__([0, 1, 4])[0])
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


# ---- "mini"


@needs("cifar10_jpeg")
def test_the_splits_of_cifar_are_balanced_and_disjoint():
    source = images.cifar10(DATA)
    train, tune = images.chosen(source.train_labels, 10_000, 2_000)
    assert not set(train) & set(tune)
    assert set(np.bincount(source.train_labels[train])) == {1000}
    task = imagenet(data=DATA)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 10_000,
        "validation": 2_000,
        "test": 4_000,
    }
    shown = source.test[images.chosen(source.test_labels, 4_000, 1_000)[0][:3]]
    batch, labels = task.splits["test"].__getitems__([0, 1, 2])
    torch.testing.assert_close(batch, scaled(torch.tensor(shown), 0.47, 0.25))
    assert labels.dtype == torch.int64


@needs("cifar10_jpeg")
def test_sixty_steps_on_cifar_teach_something():
    task = imagenet(data=DATA)
    model, _ = trained(task, 60)
    indices = list(range(1000))
    model.eval()
    with torch.no_grad():
        prediction = task.predict(model, task.splits["test"].__getitems__(indices))
    assert task.score([prediction])["accuracy"] > 0.2  # chance is .1, with a deviation of .01


@pytest.mark.parametrize("layout", ["cifar-10-batches-py", "cifar10_jpeg"])
def test_without_its_files_a_data_set_is_asked_for(home, layout):
    (home / layout).mkdir()
    with pytest.raises(DataError, match=rf"{layout}.*is missing.*cs\.toronto\.edu"):
        imagenet(data=home)


def test_a_download_that_fails_says_what_to_do(home, monkeypatch):
    def offline(*_args, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr(
        datasets, "CIFAR10", type("CIFAR10", (datasets.CIFAR10,), {"__init__": offline})
    )
    with pytest.raises(DataError, match=r"no route to host.*cs\.toronto\.edu"):
        imagenet(data=home)


# ---- "paper"


@pytest.mark.parametrize(
    ("net", "cutmix"), [("resnet18", False), ("resnet50", True), ("mobilenet_v2", False)]
)
def test_imagenet_is_trained_on_a_folder_of_its_layout(tiny, tmp_path, monkeypatch, net, cutmix):
    for look in ("training_look", "middle_look"):  # photographs of 224 x 224 take their time
        monkeypatch.setattr(folders, look, partial(getattr(folders, look), 64))
    task = imagenet(preset="paper", data=tiny, net=net, cutmix=cutmix)
    assert task.batch_size == 256
    assert task.epochs == (300 if cutmix else 100)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 7,
        "validation": 1,
        "test": 2,
    }
    scores = rehearse(task._replace(batch_size=4, loader_workers=1), tmp_path)
    assert set(scores["test"]) == {"accuracy", "loss"}


def test_a_photograph_is_seen_whole_at_the_end(tiny):
    batch, labels = imagenet(preset="paper", data=tiny).splits["test"].__getitems__([0, 1])
    assert batch.shape == (2, 3, 224, 224)
    assert labels.tolist() == [0, 1]
    red = (200 / 255 - folders.MEAN[0]) / folders.DEVIATION[0]
    torch.testing.assert_close(batch[:, 0], torch.full_like(batch[:, 0], red), atol=0.05, rtol=0)


def test_the_list_of_photographs_is_made_once(tiny, monkeypatch):
    first = imagenet(preset="paper", data=tiny)
    monkeypatch.setattr(folders, "make_dataset", partial(pytest.fail, "listed again"))
    assert len(imagenet(preset="paper", data=tiny).splits["train"]) == len(first.splits["train"])


def test_a_broken_photograph_is_named(tiny):
    broken = tiny / "imagenet/val/n01440764/ILSVRC2012_val_00000000.JPEG"
    broken.write_bytes(b"no image")
    split = imagenet(preset="paper", data=tiny).splits["test"]
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000000\.JPEG is no image"):
        split.__getitems__([0])


def test_a_class_without_photographs_is_named(tiny):
    (tiny / "imagenet/train/n99").mkdir()
    with pytest.raises(DataError, match=r"train is not complete.*n99.*image-net\.org"):
        imagenet(preset="paper", data=tiny)


def test_a_folder_without_classes_is_named(tiny):
    (tiny / "imagenet/train").rename(tiny / "elsewhere")
    photograph(tiny / "imagenet/train/n01440764_0.JPEG", (9, 9, 9))
    with pytest.raises(DataError, match=r"train has no folder of a class.*image-net\.org"):
        imagenet(preset="paper", data=tiny)


def test_the_folder_is_asked_for(home):
    with pytest.raises(DataError, match=r"no folder 'imagenet'.*train,val.*image-net\.org"):
        imagenet(preset="paper", data=home)


def test_a_net_of_the_other_preset_is_refused():
    with pytest.raises(ValueError, match="net is 'resnet50', allowed with preset 'mini'"):
        imagenet(net="resnet50")


def test_the_analysis_drops_the_rate_every_thirty_epochs(tiny):
    share = imagenet(preset="paper", data=tiny, schedule="steps").schedule
    rates = [share(epoch / 100) for epoch in (0, 29, 30, 59, 60, 89, 90, 99)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
