"""ImageNet on a tiny folder of its layout, and real images of CIFAR-10."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from planned import plan_of
from realdata import DATA, accept_copies, needs
from rehearsal import count, rehearse, trained
from torchvision import datasets

from tangential_lab.cli.study.settings import GivenSettings
from tangential_lab.experiments.data import images, photographs
from tangential_lab.experiments.data.images import scaled
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.data.splits import stratified
from tangential_lab.experiments.imagenet.task import imagenet
from tangential_lab.studies import schedule
from tangential_lab.studies.study import planned_optimizer
from tangential_lab.training import ANALYSED_OPTIMIZERS, OPTIMIZERS


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


@pytest.mark.parametrize(
    ("net", "millions"), [("resnet18", 11.69), ("resnet50", 25.56), ("mobilenet_v2", 3.50)]
)
def test_the_nets_of_the_paper_are_the_published_ones(tiny, net, millions):
    model = imagenet(preset="paper", data=tiny, net=net).model
    with torch.device("meta"):
        assert round(count(model(num_classes=1000)) / 1e6, 2) == millions


def test_batches_depend_only_on_the_seed(tiny):
    split = imagenet(preset="paper", data=tiny, cutmix=True).splits["train"]
    batches = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        batches.append(split.__getitems__([0, 1, 4])[0])
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


@needs("cifar-10-batches-py")
@pytest.mark.slow
def test_the_splits_of_cifar_are_balanced_and_disjoint(monkeypatch):
    accept_copies(monkeypatch)
    source = images.cifar10(DATA)
    train, validation = stratified(source.train_labels, 10_000, 2_000)
    assert not set(train) & set(validation)
    assert set(np.bincount(source.train_labels[train])) == {1000}
    task = imagenet(data=DATA)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 10_000,
        "validation": 2_000,
        "test": 4_000,
    }
    shown = source.test[stratified(source.test_labels, 4_000, 1_000)[0][:3]]
    batch, labels = task.splits["test"].__getitems__([0, 1, 2])
    torch.testing.assert_close(batch, scaled(torch.tensor(shown), 0.47, 0.25))
    assert labels.dtype == torch.int64


@needs("cifar-10-batches-py")
@pytest.mark.slow
def test_sixty_steps_on_cifar_teach_something(monkeypatch):
    accept_copies(monkeypatch)
    task = imagenet(data=DATA)
    model, _ = trained(task, 60)
    indices = list(range(1000))
    model.eval()
    with torch.no_grad():
        prediction = task.predict(model, task.splits["test"].__getitems__(indices))
    assert task.score([prediction])["accuracy"] > 0.2  # chance is .1, with a deviation of .01


def test_missing_files_of_a_data_set_are_named(home):
    (home / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match=r"cifar-10-.*data_batch_1 is missing.*cs\.toronto\.edu"):
        imagenet(data=home)


def test_a_download_that_fails_says_what_to_do(home, monkeypatch):
    def offline(*_args, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr(
        datasets, "CIFAR10", type("CIFAR10", (datasets.CIFAR10,), {"__init__": offline})
    )
    with pytest.raises(DataError, match=r"no route to host.*cs\.toronto\.edu"):
        imagenet(data=home)


@pytest.mark.parametrize(
    ("net", "cutmix"), [("resnet18", False), ("resnet50", True), ("mobilenet_v2", False)]
)
@pytest.mark.slow
def test_imagenet_is_trained_on_a_folder_of_its_layout(tiny, tmp_path, monkeypatch, net, cutmix):
    for view in ("random_view", "central_view"):  # photographs of 224 x 224 take longer
        monkeypatch.setattr(photographs, view, partial(getattr(photographs, view), 64))
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


def test_all_photographs_are_trained_on_if_none_is_held_out(tiny):
    usual, every = (imagenet(preset="paper", data=tiny, held_out=h).splits for h in (True, False))
    assert {name: len(split) for name, split in every.items()} == {"train": 8, "test": 2}
    held_out = {*usual["train"].files, *usual["validation"].files}
    assert set(every["train"].files) == held_out
    assert every["train"].labels.tolist() == [0] * 4 + [1] * 4


def test_the_published_analysis_has_no_weight_decay_and_plain_sgd_too(tiny):
    """`analyse imagenet --preset paper --set schedule=steps held_out=no --weight-decay 0`."""
    task = imagenet(preset="paper", data=tiny, schedule="steps", held_out=False)
    given = GivenSettings(weight_decay=("0",)).points()
    names = ANALYSED_OPTIMIZERS
    planned = {n: planned_optimizer(task, n, OPTIMIZERS[n], names, given) for n in names}
    plan = plan_of(optimizers=planned, trials=0, seeds=1, undecayed=False, epochs=task.epochs)
    specs = {(s.optimizer, s.phase): s.values for s in schedule.trials(plan, {})}
    assert specs == {
        (name, "test"): {"lr": 0.1 if name.startswith("sgd") else 1e-3, "weight_decay": 0.0}
        for name in ("sgd-plain", "sgd", "sgdp", "adam", "adamp")
    }


def test_evaluation_shows_the_middle_of_a_photograph(tiny):
    batch, labels = imagenet(preset="paper", data=tiny).splits["test"].__getitems__([0, 1])
    assert batch.shape == (2, 3, 224, 224)
    assert labels.tolist() == [0, 1]
    red = (200 / 255 - photographs.MEAN[0]) / photographs.DEVIATION[0]
    torch.testing.assert_close(batch[:, 0], torch.full_like(batch[:, 0], red), atol=0.05, rtol=0)


def test_the_list_of_photographs_is_made_once(tiny, monkeypatch):
    first = imagenet(preset="paper", data=tiny)
    monkeypatch.setattr(photographs, "make_dataset", partial(pytest.fail, "listed again"))
    assert len(imagenet(preset="paper", data=tiny).splits["train"]) == len(first.splits["train"])


def test_a_broken_photograph_is_named(tiny):
    broken = tiny / "imagenet/val/n01440764/ILSVRC2012_val_00000000.JPEG"
    broken.write_bytes(b"no image")
    split = imagenet(preset="paper", data=tiny).splits["test"]
    with pytest.raises(DataError, match=r"cannot read .*ILSVRC2012_val_00000000\.JPEG as an image"):
        split.__getitems__([0])


def test_a_class_without_photographs_is_named(tiny):
    (tiny / "imagenet/train/n99").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*train as a folder.*n99.*image-net\.org"):
        imagenet(preset="paper", data=tiny)


def test_a_folder_without_classes_is_named(tiny):
    (tiny / "imagenet/train").rename(tiny / "elsewhere")
    photograph(tiny / "imagenet/train/n01440764_0.JPEG", (9, 9, 9))
    with pytest.raises(DataError, match=r"train contains no folder of .*class.*image-net\.org"):
        imagenet(preset="paper", data=tiny)


def test_a_missing_folder_is_named(home):
    with pytest.raises(DataError, match=r"no folder 'imagenet'.*train, val.*image-net\.org"):
        imagenet(preset="paper", data=home)


def test_a_net_of_the_other_preset_is_refused():
    with pytest.raises(ValueError, match=r"net must be .* with preset 'mini', got 'resnet50'"):
        imagenet(net="resnet50")


def test_the_analysis_drops_the_rate_every_thirty_epochs(tiny):
    share = imagenet(preset="paper", data=tiny, schedule="steps").schedule
    rates = [share(epoch / 100) for epoch in (0, 29, 30, 59, 60, 89, 90, 99)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
