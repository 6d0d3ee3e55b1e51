"""Training against attacks, and the published set-up on a tiny folder."""

import hashlib
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from rehearsal import count, rehearse, scored, trained
from torch import nn
from torchvision import datasets

from tangential_lab.experiments.adversarial.task import adversarial
from tangential_lab.experiments.adversarial.wide_resnet import wide_resnet
from tangential_lab.experiments.data import images
from tangential_lab.experiments.data.sources import DataError


class Wrapped(nn.Module):
    """Like DistributedDataParallel, it may run only once per step."""

    def __init__(self, module):
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, x):
        self.calls += 1
        return self.module(x)


def test_the_loss_is_that_of_attacked_images_and_runs_a_wrapped_net_once():
    task, clean = adversarial(), adversarial(train="clean")
    torch.manual_seed(1)
    wrapped = Wrapped(task.model())
    drawn = task.splits["train"].__getitems__(list(range(64)))
    harder, easier = (t.loss(wrapped, drawn).item() for t in (task, clean))
    assert harder > easier
    assert wrapped.calls == 2
    assert easier == nn.functional.cross_entropy(wrapped.module(drawn[0]), drawn[1]).item()


def test_attacks_start_at_random_points_only_in_training():
    task = adversarial()
    model, drawn = task.model(), task.splits["validation"].__getitems__([0, 1, 2, 3])
    losses = {task.loss(model.train(), drawn).item() for _ in range(3)}
    assert len(losses) == 3
    model.eval()
    with torch.no_grad():
        first, second = (task.predict(model, drawn) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_scores_count_what_is_classified_rightly():
    eye = 9 * torch.eye(10)
    clean, attacked = eye[[0, 1, 2, 3]], eye[[0, 2, 2, 1]]
    scores = adversarial().score([(clean[:3], attacked[:3], torch.tensor([0, 1, 2]))] * 2)
    assert (scores["clean accuracy"], scores["attacked accuracy"]) == (1.0, pytest.approx(2 / 3))
    wrong = math.log(math.exp(9) + 9)
    assert scores["loss"] == pytest.approx((2 * (wrong - 9) + wrong) / 3, rel=1e-5)


def test_the_splits_of_the_digits_are_disjoint():
    splits = adversarial().splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [1077, 360, 360]
    rows = torch.cat([splits[name].inputs.flatten(1) for name in splits])
    assert len(rows.unique(dim=0)) == 1797  # all digits are different
    assert rows.min() == 0
    assert rows.max() == 1


@pytest.mark.slow
def test_adversarial_training_raises_attacked_accuracy():
    scores = {}
    for train in ("adversarial", "clean"):
        task = adversarial(train=train)
        model, _ = trained(task, 32)
        scores[train] = scored(task, model)
    assert scores["adversarial"]["attacked accuracy"] > 1.5 * scores["clean"]["attacked accuracy"]
    assert scores["clean"]["clean accuracy"] > 0.9


def test_steps_along_the_gradient_are_for_l2():
    with pytest.raises(ValueError, match="step must be 'sign' with norm 'linf', got 'gradient'"):
        adversarial(step="gradient")
    assert adversarial(norm="l2", step="gradient").name == "adversarial"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of data sets that has ten images as torchvision keeps CIFAR-10."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    home = tmp_path / "data"
    layout = home / datasets.CIFAR10.base_folder
    layout.mkdir(parents=True)

    def stored(name, content):
        blob = pickle.dumps(content)
        (layout / name).write_bytes(blob)
        return [name, hashlib.md5(blob).hexdigest()]

    def content(size):
        pixels = np.random.default_rng(0).integers(256, size=(size, 3072), dtype=np.uint8)
        return {"data": pixels, "labels": list(range(size))}

    meta = stored("batches.meta", {"label_names": list("abcdefghij")})
    for name, value in {
        "train_list": [stored("data_batch_1", content(6)), stored("data_batch_2", content(4))],
        "test_list": [stored("test_batch", content(2))],
        "meta": {"filename": meta[0], "key": "label_names", "md5": meta[1]},
    }.items():
        monkeypatch.setattr(datasets.CIFAR10, name, value)
    files = ("data_batch_1", "data_batch_2", "test_batch")
    monkeypatch.setattr(images, "CIFAR10", images.CIFAR10._replace(files=files))
    return home


@pytest.mark.slow
def test_cifar_is_trained_on_a_folder_of_its_layout(home, tmp_path):
    task = adversarial(preset="paper", data=home)
    assert (task.batch_size, task.epochs, task.data.about) == (128, 200, "CIFAR-10")
    assert {n: len(s) for n, s in task.splits.items()} == {"train": 9, "validation": 1, "test": 2}
    with torch.device("meta"):
        assert count(task.model()) == 45_901_914
    thin = partial(wide_resnet, 16, 1, shortcut="padding")
    narrow = task._replace(batch_size=4, model=thin)
    found = rehearse(narrow, tmp_path)["test"]
    assert set(found) == {"attacked accuracy", "clean accuracy", "loss"}


def test_all_of_cifar_is_trained_on_if_nothing_is_held_out(home):
    splits = adversarial(preset="paper", data=home, held_out=False).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 10, "test": 2}
    assert sorted(splits["train"].labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]


@pytest.mark.slow
def test_the_net_of_the_paper_learns_from_a_step(home):
    task = adversarial(preset="paper", data=home)
    model = task.model()
    loss = task.audit_loss(model, task.splits["train"].__getitems__([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_learning_rate_drops_at_the_published_steps(home):
    share = adversarial(preset="paper", data=home).schedule
    steps = 200 * (50_000 // 128 + 1)
    rates = [share(step / steps) for step in (0, 39_999, 40_000, 59_999, 60_000)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_broken_file_is_found_by_its_checksum(home):
    (home / datasets.CIFAR10.base_folder / "test_batch").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cannot read .*as CIFAR-10.*corrupted.*cs\.toronto\.edu"):
        adversarial(preset="paper", data=home)


def test_the_paper_preset_needs_cifar(home):
    layout = home / datasets.CIFAR10.base_folder
    layout.rename(home / "elsewhere")
    with pytest.raises(DataError, match=r"no folder 'cifar-10-batches-py'.*cs\.toronto\.edu"):
        adversarial(preset="paper", data=home)
