"""Blood cells: BCCD's layout, and the real photographs."""

import numpy as np
import pytest
from PIL import Image
from realdata import DATA, PACKS, needs

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.detection.annotations import bccd

CLASSES = ("RBC", "WBC", "Platelets")


@needs("BCCD_Dataset")
@pytest.mark.slow
def test_blood_cells_are_those_of_the_source():
    source = bccd(DATA)
    whole = source.splits["train"]
    assert source.classes == CLASSES
    assert {name: len(s) for name, s in source.splits.items()} == {
        "train": 205,
        "validation": 87,
        "test": 72,
    }
    assert np.bincount(whole.arrays["labels"]).tolist() == [4153, 372, 361]
    with np.load(PACKS / "bccd/bccd.npz") as packed:
        names = [str(name) for name in packed["ids"]]
        number = names.index(sorted(names)[whole.numbers[3]])
        assert packed["split"][number] == 0
        chosen = packed["image_index"] == number
        pixels, (target,) = whole.__getitems__([3])
        assert (2 * target["boxes"]).tolist() == packed["boxes"][chosen].tolist()
        assert target["labels"].tolist() == packed["labels"][chosen].tolist()
    assert pixels.shape == (1, 3, 240, 320)


@needs("BCCD_Dataset")
@pytest.mark.slow
def test_prepared_photographs_are_read_once(monkeypatch):
    first = bccd(DATA)
    monkeypatch.setattr(
        "tangential_lab.experiments.detection.annotations._pixels",
        lambda path: pytest.fail("read again"),
    )
    assert bccd(DATA).data == first.data


# ---- BCCD's layout


BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
OBJECT = f"<object><name>{{}}</name>{BOX}</object>"


@pytest.fixture
def cells(home):
    """BCCD's layout: a photograph for each split, the second without a box that has an area."""
    folder = home / "BCCD_Dataset/BCCD"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    noted = {
        "a": [OBJECT.format("WBC", 10, 20, 110, 220), OBJECT.format("RBC", 0, 0, 20, 40)],
        "b": [OBJECT.format("RBC", 5, 5, 5, 9)],
        "c": [OBJECT.format("Platelets", 300, 200, 320, 220)],
    }
    for (name, objects), part in zip(noted.items(), ("test", "train", "val"), strict=True):
        Image.new("RGB", (640, 480), (200, 150, 150)).save(folder / f"JPEGImages/{name}.jpg")
        text = f"<annotation>{''.join(objects)}</annotation>"
        (folder / f"Annotations/{name}.xml").write_text(text)
        (folder / f"ImageSets/Main/{part}.txt").write_text(f"{name}\n")
    return folder


def test_cells_are_read_at_half_their_size(cells, home):
    source = bccd(home)
    assert source.classes == CLASSES
    assert [len(source.splits[name]) for name in ("train", "validation", "test")] == [1, 1, 1]
    images, (target,) = source.splits["test"].__getitems__([0])
    assert images.shape == (1, 3, 240, 320)
    assert target["boxes"].tolist() == [[5, 10, 55, 110], [0, 0, 10, 20]]
    assert target["labels"].tolist() == [1, 0]
    assert target["iscrowd"].tolist() == [0, 0]
    assert not len(source.splits["train"].__getitems__([0])[1][0]["labels"])
    (last,) = source.splits["validation"].__getitems__([0])[1]
    assert last["boxes"].tolist() == [[150, 100, 160, 110]]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ImageSets/Main/val.txt", None, r"val\.txt as a list of photographs.*git clone"),
        ("JPEGImages/b.jpg", None, r"b\.jpg as an image"),
        ("JPEGImages/b.jpg", "no", r"b\.jpg as an image"),
        ("Annotations/c.xml", None, r"c\.xml as a file of annotations.*git clone"),
        ("Annotations/c.xml", "<a>", r"c\.xml as a file of annotations"),
        (
            "Annotations/c.xml",
            f"<a>{OBJECT.format('dog', 1, 1, 2, 2)}</a>",
            r"c\.xml as a file of annotations: ValueError",
        ),
    ],
)
def test_missing_and_broken_files_of_bccd_are_named(cells, home, file, content, message):
    (cells / file).unlink()
    if content:
        (cells / file).write_text(content)
    with pytest.raises(DataError, match=f"cannot read .*{message}"):
        bccd(home)
