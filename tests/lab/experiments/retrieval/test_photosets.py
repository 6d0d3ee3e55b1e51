"""The published data sets on tiny folders of the same layout."""

import pickle

import numpy as np
import pytest
from PIL import Image
from tiny_photosets import TINY, tiny_cars, tiny_cub

from tangential_lab.experiments.data.photographs import read_photograph
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.retrieval.photosets import BOTH, GALLERY, QUERY
from tangential_lab.experiments.retrieval.task import (
    retrieval,
)
from tangential_lab.training import ProcessShare, evaluation_batches


@pytest.mark.parametrize("dataset", TINY)
@pytest.mark.slow
def test_paper_layouts(dataset, tmp_path):
    TINY[dataset](tmp_path)
    task = retrieval(preset="paper", data=tmp_path, dataset=dataset, pretrained=False)
    parts = task.splits
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 6,
        "validation": 3,
        "test": 6,
    }
    assert parts["train"].labels[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert len(np.unique(parts["test"].labels[:, 0])) == 2
    used = [set(part.files.tolist()) for part in parts.values()]
    assert len(set.union(*used)) == 15
    roles = [QUERY, GALLERY, GALLERY] * 2 if dataset == "inshop" else [BOTH] * 6
    assert parts["test"].labels[:, 1].tolist() == roles
    images, _ = next(iter(evaluation_batches(task, task.splits["test"], ProcessShare())))
    assert images.shape == (6, 3, 224, 224)
    pickle.loads(pickle.dumps(task.splits))  # processes that load batches may need it
    assert task.batch_size == {"cub": 120, "cars": 120, "sop": 180, "inshop": 180}[dataset]
    assert "(2 of 3 training classes; the others validation)" in task.about


@pytest.mark.parametrize("dataset", TINY)
def test_all_training_classes_are_trained_on_if_none_is_held_out(dataset, tmp_path):
    TINY[dataset](tmp_path)
    options = {"dataset": dataset, "pretrained": False, "held_out": False}
    task = retrieval(preset="paper", data=tmp_path, **options)
    parts = task.splits
    assert {name: len(part) for name, part in parts.items()} == {"train": 9, "test": 6}
    assert parts["train"].labels[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert "(all 3 training classes)" in task.about


def test_a_missing_or_broken_photograph_is_named(tmp_path):
    tiny_cub(tmp_path)
    victim = tmp_path / "CUB_200_2011/images/001.Bird/Bird_1.jpg"
    victim.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read .*Bird_1\.jpg as an image"):
        read_photograph(victim)
    victim.unlink()
    with pytest.raises(DataError, match=r"Bird_1\.jpg is missing, but listed in"):
        retrieval(preset="paper", data=tmp_path, pretrained=False)


@pytest.mark.parametrize("size", [0, 100, 150, 300])
def test_broken_annotations_are_named(size, tmp_path):
    tiny_cars(tmp_path)
    notes = tmp_path / "cars196/cars_annos.mat"
    notes.write_bytes(notes.read_bytes()[:size])
    with pytest.raises(
        DataError, match=r"cannot read .*cars_annos\.mat as a file of annot.*Get car_ims"
    ):
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
    """A list that lacks a line would make all later classes wrong."""
    TINY[dataset](tmp_path)
    path = tmp_path / table
    path.write_text(path.read_text().replace(old, new), "latin-1")
    with pytest.raises(DataError, match=rf"cannot read .*{path.name} as .*{expected}.*: .*Get "):
        retrieval(preset="paper", data=tmp_path, dataset=dataset, pretrained=False)


def test_grey_photographs_get_colours(tmp_path):
    Image.fromarray(np.full((5, 5), 100, np.uint8)).save(tmp_path / "grey.png")
    assert np.asarray(read_photograph(tmp_path / "grey.png")).shape == (5, 5, 3)


def test_a_broken_list_is_named(tmp_path):
    tiny_cub(tmp_path)
    table = tmp_path / "CUB_200_2011/images.txt"
    table.write_text(table.read_text() + "16 two words.jpg\n")
    with pytest.raises(DataError, match=r"images\.txt, line 16 must have 2 words, got 3"):
        retrieval(preset="paper", data=tmp_path, pretrained=False)
