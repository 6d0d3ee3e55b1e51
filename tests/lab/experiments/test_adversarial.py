"""The attack, the nets it is made on, and training against it."""

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

from tangential_lab.experiments.adversarial.attack import Attack
from tangential_lab.experiments.adversarial.task import adversarial
from tangential_lab.experiments.adversarial.wide_resnet import wide_resnet
from tangential_lab.experiments.data.sources import DataError

ATTACKS = [
    Attack("linf", 4 / 255, 2 / 255),
    Attack("l2", 80 / 255, 2 / 255),
    Attack("l2", 80 / 255, 20 / 255, "gradient"),
]
ROUNDING = 1e-6


def lengths(change):
    return change.flatten(1).norm(dim=1)


@pytest.fixture
def batch():
    return torch.rand(6, 3, 16, 16), torch.arange(6)


@pytest.fixture
def net():
    return wide_resnet(10, 1, slope=0.1)


# ---- the nets


@pytest.mark.parametrize(
    ("depth", "factor", "millions"),
    # the last digits that Zagoruyko and Komodakis print, table 4 and 5; Madry's net
    [(40, 4, 8.9), (16, 8, 11.0), (28, 10, 36.5), (34, 10, 46.2)],
)
def test_wide_nets_have_the_weights_of_their_papers(depth, factor, millions):
    with torch.device("meta"):
        assert round(count(wide_resnet(depth, factor)) / 1e6, 1) == millions


def test_the_net_of_the_paper_leaks():
    with torch.device("meta"):
        net = wide_resnet(34, 10, slope=0.1)
    assert count(net) == 46_160_474
    slopes = [m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.1] * (2 * 15 + 1)


def test_a_depth_that_no_wide_net_has_is_refused():
    with pytest.raises(ValueError, match="depth is 12, allowed are 10, 16"):
        wide_resnet(12, 1)


# ---- the attack


def linear(weights):
    """Two classes; the logit of the second is <weights, image>, of the first 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2, bias=False))
    model[1].weight.data = torch.stack([torch.zeros(weights.numel()), weights.flatten()])
    return model


@pytest.mark.parametrize("random_start", [False, True])
def test_on_a_linear_net_an_attack_ends_where_it_must(random_start):
    weights = torch.randn(1, 4, 5)
    model, images = linear(weights), 0.4 + 0.2 * torch.rand(3, 1, 4, 5)  # nothing is cut
    labels = torch.zeros(3, dtype=torch.int64)  # so the gradient is along the weights
    signs, length = weights.sign(), weights.norm()
    for attack, change in [
        (Attack("linf", 0.1, 0.05), 0.1 * signs),
        (Attack("l2", 0.1, 0.05), 0.1 * signs / math.sqrt(20)),
        (Attack("l2", 0.1, 0.05, "gradient"), 0.1 * weights / length),
    ]:
        attacked = attack(model, images, labels, random_start=random_start)
        if attack.norm == "linf" or not random_start:
            torch.testing.assert_close(attacked, images + change.expand_as(images))
        else:  # on its way there
            cosine = nn.functional.cosine_similarity(
                (attacked - images).flatten(1), change.flatten()[None]
            )
            assert (cosine > 0.9).all()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("random_start", [False, True])
def test_an_attack_stays_in_its_ball_and_raises_the_loss(attack, random_start, net, batch):
    images, labels = batch
    attacked = attack(net, images, labels, random_start=random_start)
    change = attacked - images
    reach = change.abs().amax((1, 2, 3)) if attack.norm == "linf" else lengths(change)
    assert (reach <= attack.radius + ROUNDING).all()
    assert (reach > attack.radius / 2).all()
    assert 0 <= attacked.min() <= attacked.max() <= 1
    net.eval()
    each = partial(nn.functional.cross_entropy, target=labels, reduction="none")
    assert (each(net(attacked)) > each(net(images))).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_inside_stays_and_what_is_outside_comes_to_the_border(attack):
    images = torch.full((2, 3, 8, 8), 0.5)
    change = torch.randn(2, 3, 8, 8)
    near = images + attack.radius * 0.1 * change / change.abs().amax()
    near[1] = images[1] + 0.9 * attack.radius / math.sqrt(192) * change[1].sign()
    torch.testing.assert_close(attack.inside(near, images), near)
    far = attack.inside(images + change, images) - images
    if attack.norm == "linf":
        torch.testing.assert_close(far, change.clamp(-attack.radius, attack.radius))
    else:
        torch.testing.assert_close(lengths(far), torch.full((2,), attack.radius))
        assert (nn.functional.cosine_similarity(far.flatten(1), change.flatten(1)) > 0.999).all()


def test_an_attack_leaves_the_net_as_it_was(net, batch):
    net.train()
    net[1].eval()  # frozen by its owner
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    ATTACKS[0](net, *batch, random_start=True)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_an_image_without_a_gradient_stays_where_it_is(batch):
    images, labels = batch
    model = linear(torch.zeros(3, 16, 16))
    for attack in ATTACKS:
        assert torch.equal(attack(model, images, labels % 2, random_start=False), images)


# ---- the task


class Wrapped(nn.Module):
    """Stands for DistributedDataParallel: may be run once a step."""

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


def test_attacks_start_by_chance_in_training_alone():
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


def test_training_against_attacks_helps_against_them():
    scores = {}
    for train in ("adversarial", "clean"):
        task = adversarial(train=train)
        model, _ = trained(task, 64)
        scores[train] = scored(task, model)
    assert scores["adversarial"]["attacked accuracy"] > 1.5 * scores["clean"]["attacked accuracy"]
    assert scores["clean"]["clean accuracy"] > 0.9


def test_steps_along_the_gradient_are_for_l2():
    with pytest.raises(ValueError, match="step is 'gradient', allowed with norm 'linf' is 'sign'"):
        adversarial(step="gradient")
    assert adversarial(norm="l2", step="gradient").name == "adversarial"


# ---- "paper"


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

    def images(size):
        pixels = np.random.default_rng(0).integers(256, size=(size, 3072), dtype=np.uint8)
        return {"data": pixels, "labels": list(range(size))}

    meta = stored("batches.meta", {"label_names": list("abcdefghij")})
    for name, value in {
        "train_list": [stored("data_batch_1", images(6)), stored("data_batch_2", images(4))],
        "test_list": [stored("test_batch", images(2))],
        "meta": {"filename": meta[0], "key": "label_names", "md5": meta[1]},
    }.items():
        monkeypatch.setattr(datasets.CIFAR10, name, value)
    return home


def test_cifar_is_trained_on_a_folder_of_its_layout(home, tmp_path):
    task = adversarial(preset="paper", data=home)
    assert (task.batch_size, task.epochs, task.data.about) == (128, 200, "CIFAR-10")
    assert {n: len(s) for n, s in task.splits.items()} == {"train": 9, "validation": 1, "test": 2}
    with torch.device("meta"):
        assert count(task.model()) == 46_160_474
    narrow = task._replace(batch_size=4, model=partial(wide_resnet, 16, 1, slope=0.1))
    found = rehearse(narrow, tmp_path)["test"]
    assert set(found) == {"attacked accuracy", "clean accuracy", "loss"}


def test_the_net_of_the_paper_learns_from_a_step(home):
    task = adversarial(preset="paper", data=home)
    model = task.model()
    loss = task.audit_loss(model, task.splits["train"].__getitems__([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_rate_drops_where_it_did(home):
    share = adversarial(preset="paper", data=home).schedule
    steps = 200 * (50_000 // 128 + 1)
    rates = [share(step / steps) for step in (0, 39_999, 40_000, 59_999, 60_000)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_broken_file_is_found_by_its_checksum(home):
    (home / datasets.CIFAR10.base_folder / "test_batch").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cannot be had.*corrupted.*cs\.toronto\.edu"):
        adversarial(preset="paper", data=home)


def test_without_the_original_the_paper_is_not_repeated(home):
    layout = home / datasets.CIFAR10.base_folder
    layout.rename(home / "elsewhere")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is needed.*cs\.toronto\.edu"):
        adversarial(preset="paper", data=home)
