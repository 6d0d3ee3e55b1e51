"""COCO's layout."""

import json

import pytest
from coco_folder import sample

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.detection.annotations import coco


def test_coco_is_read_in_its_published_layout(tiny):
    source = coco(tiny)
    assert source.classes == ("plane", "brush")  # in the order of their ids
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "test": 4}
    pixels, targets = source.splits["test"].__getitems__([1, 0])
    assert pixels.shape == (2, 3, 48, 64)
    assert targets[0]["boxes"].tolist() == [[4, 6, 34, 26]]
    assert targets[1]["boxes"].tolist() == [[4, 6, 34, 26], [0, 0, 64, 48]]  # one has no width
    assert targets[1]["labels"].tolist() == [0, 1]
    assert targets[1]["iscrowd"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda home: (home / "annotations/instances_val2017.json").unlink(), "instances_val2017"),
        (lambda home: (home / "annotations/instances_train2017.json").write_text("{"), "JSON"),
        (
            lambda home: (home / "annotations/instances_train2017.json").write_text("[1]"),
            "instances_train2017.json",
        ),
        (lambda home: (home / "val2017/000000000012.jpg").unlink(), "lacks 1 of the 4 images"),
        (
            lambda home: (home / "annotations/instances_val2017.json").write_text(
                json.dumps(sample(range(10, 14)) | {"categories": [{"id": 5, "name": "x"}]})
            ),
            "instances_val2017.json",
        ),
    ],
    ids=["no annotations", "broken JSON", "other JSON", "no image", "unknown category"],
)
def test_missing_and_broken_files_are_named(tiny, spoil, named):
    spoil(tiny / "coco")
    with pytest.raises(DataError, match=named) as raised:
        coco(tiny)
    assert "https://cocodataset.org" in str(raised.value)


def test_other_categories_are_refused(tiny):
    note = tiny / "coco/annotations/instances_val2017.json"
    renamed = [{"id": 90, "name": "brush"}, {"id": 5, "name": "aeroplane"}]
    note.write_text(json.dumps(sample(range(10, 14)) | {"categories": renamed}))
    with pytest.raises(DataError, match="must have the categories of"):
        coco(tiny)


def test_a_broken_image_is_named(tiny):
    source = coco(tiny)
    (tiny / "coco/train2017/000000000003.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read .*000000000003\.jpg as an image"):
        source.splits["train"].__getitems__([3])
