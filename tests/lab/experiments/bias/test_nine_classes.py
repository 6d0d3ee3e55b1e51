"""Nine classes of ImageNet."""

from functools import partial

import pytest
import torch
from hard_classes import HARD
from rehearsal import rehearse

from tangential_lab.experiments.bias import nine_classes
from tangential_lab.experiments.bias.task import bias
from tangential_lab.experiments.data import photographs
from tangential_lab.experiments.data.sources import DataError


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


def test_all_animals_are_trained_on_if_none_is_held_out(animals):
    splits = bias(preset="paper", source="imagenet", data=animals, held_out=False).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 84, "test": 42 + 19}


@pytest.mark.slow
def test_animals_are_trained_on_a_folder_of_their_layout(animals, tmp_path, monkeypatch):
    few = dict(list(nine_classes.CLASSES.items())[::14])
    monkeypatch.setattr(nine_classes, "CLASSES", few)  # photographs of 224 x 224 are slow
    for view in ("random_view", "central_view"):
        monkeypatch.setattr(photographs, view, partial(getattr(photographs, view), 64))
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
        ("imagenet/val/n02085620", r"cannot read .*val as a folder.*n02085620.*image-net"),
        ("imagenet-a/n02085620/hard.jpg", r"cannot read .*imagenet-a as .*n02085620.*natural-adv"),
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
    with pytest.raises(DataError, match=r"imagenet-a contains no folder of .*class.*natural-adv"):
        bias(preset="paper", source="imagenet", data=animals)


@pytest.mark.parametrize(
    "content",
    ["one,two\n1,2\n", "path,cluster1,cluster2,cluster3\na,1,2\n", "path,cluster1\n\0,x\n"],
    ids=["other columns", "a short line", "no numbers"],
)
def test_another_table_is_named_and_what_it_should_be(animals, content):
    (animals / "imagenet" / nine_classes.TEXTURES).write_text(content)
    wanted = r"val\.csv as a table with columns path, cluster1, cluster2, cluster3.*rebias"
    with pytest.raises(DataError, match=wanted):
        bias(preset="paper", source="imagenet", data=animals)


def test_a_photograph_without_textures_is_named(animals):
    table = animals / "imagenet" / nine_classes.TEXTURES
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match=r"has no line for n02219486/val_41\.JPEG"):
        bias(preset="paper", source="imagenet", data=animals)


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"rho must be from 0\.1 .*, got 1\.5"):
        bias(rho=1.5)
    with pytest.raises(
        ValueError, match="source must be 'mnist' with preset 'mini', got 'imagenet'"
    ):
        bias(source="imagenet")
