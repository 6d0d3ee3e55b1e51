"""The detection task on tiny folders and on real photographs."""

import pickle

import numpy as np
import pytest
import torch
from boxed_batches import NETS
from realdata import DATA, needs
from rehearsal import rehearse
from torch import nn

from tangential_lab.experiments.detection import task as rooms
from tangential_lab.experiments.detection.ssd import SSD300, Detector
from tangential_lab.experiments.detection.task import detection


def test_crowds_are_kept_only_in_evaluation(tiny):
    task = detection(preset="paper", data=tiny)
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 5,
        "validation": 1,
        "test": 4,
    }
    tuned = task.splits["validation"].__getitems__([0])[1][0]
    assert tuned["iscrowd"].tolist() == [0, 1]
    assert all("iscrowd" not in t for t in task.splits["train"].__getitems__([0, 1, 2])[1])


def test_all_photographs_are_trained_on_if_none_is_held_out(tiny):
    splits = detection(preset="paper", data=tiny, held_out=False).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "test": 4}
    assert all("iscrowd" not in t for t in splits["train"].__getitems__([0])[1])


@pytest.mark.parametrize("detector", NETS)
@pytest.mark.slow
def test_detectors_are_trained_on_a_folder_of_cocos_layout(tiny, tmp_path, monkeypatch, detector):
    small = rooms.PUBLISHED["centernet"]._replace(size=(128, 128))  # images of 512 x 512 are slow
    monkeypatch.setitem(rooms.PUBLISHED, "centernet", small)
    task = detection(preset="paper", data=tiny, detector=detector)
    if detector == "ssd":  # its size is fixed, and the whole net is slow
        thin = SSD300._replace(width=1 / 8)
        task = task._replace(model=lambda: Detector(2, (300, 300), thin))
    few = {name: split.only(np.arange(4)[: len(split)]) for name, split in task.splits.items()}
    scores = rehearse(task._replace(splits=few, batch_size=2, loader_workers=1), tmp_path)["test"]
    assert set(scores) == {"AP", "AP50"}
    assert 0 <= scores["AP"] <= scores["AP50"] <= 1


@pytest.mark.slow
def test_the_ssd_of_the_paper_learns_from_a_step(tiny):
    task = detection(preset="paper", data=tiny, detector="ssd")
    model = task.model()
    loss = task.loss(model, task.splits["train"].__getitems__([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("detector", "epochs", "batch_size", "drops"),
    [("centernet", 140, 114, (90, 120)), ("ssd", 120, 32, (80, 110))],
)
def test_learning_rate_falls_when_it_should(tiny, detector, epochs, batch_size, drops):
    task = detection(preset="paper", data=tiny, detector=detector)
    assert (task.epochs, task.batch_size) == (epochs, batch_size)
    rates = [task.schedule((epoch + 0.5) / epochs) for epoch in range(epochs)]
    wanted = [0.1 ** sum(epoch >= drop for drop in drops) for epoch in range(epochs)]
    assert rates == pytest.approx(wanted)


def test_small_nets_cannot_be_pretrained():
    with pytest.raises(ValueError, match="pretrained must be False with preset 'mini', got True"):
        detection(pretrained=True)


@needs("BCCD_Dataset")
@pytest.mark.parametrize("detector", NETS)
@pytest.mark.slow
def test_mini_batches_are_the_seeds_and_can_be_trained_on(detector):
    task = detection(data=DATA, detector=detector)
    torch.manual_seed(3)
    pixels, targets = task.splits["train"].__getitems__([5, 6, 7])
    torch.manual_seed(3)
    sent = pickle.loads(pickle.dumps(task.splits["train"]))  # to a process that loads batches
    again, _ = sent.__getitems__([5, 6, 7])
    other, _ = task.splits["train"].__getitems__([5, 6, 7])
    assert torch.equal(pixels, again)
    assert not torch.equal(pixels, other)
    model = task.model().train()
    task.loss(model, (pixels, targets)).backward()
    with torch.no_grad():
        predictions = [task.predict(model.eval(), task.splits["test"].__getitems__([0, 1]))]
    assert task.metric.name in task.score(predictions)


@needs("BCCD_Dataset")
@pytest.mark.slow
def test_the_small_centernets_shifts_learn_slowly():
    """At the learning rate of the others, shifts leave the map within an epoch or two."""
    task = detection(data=DATA)
    model = task.model()
    others, shifts = task.groups(model)
    wheres = [up[0].where for up in model.ups]
    assert {id(p) for p in shifts["params"]} == {id(p) for w in wheres for p in w.parameters()}
    assert shifts["lr_scale"] == 0.1
    assert len(others["params"]) + len(shifts["params"]) == len(list(model.parameters()))
    assert len(detection(data=DATA, detector="ssd").groups(nn.Linear(2, 2))) == 1
