"""Sets of photographs for retrieval, in the layout of their archives: splits of disjoint classes.

Labels are [n, 2]: the class, and the role in evaluation.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torchvision.transforms import v2

from tangential_lab.experiments.data.photographs import Photographs, central_view, random_view
from tangential_lab.experiments.data.sources import DataFolder, Download, described
from tangential_lab.training import DataSource

BOTH, QUERY, GALLERY = 0, 1, 2  # the role of an image in evaluation
HELD_OUT = 10  # the last 1/HELD_OUT of the training classes is for validation
CUB = DataFolder(
    "CUB_200_2011",
    ("images.txt", "image_class_labels.txt"),
    "Get it from https://www.vision.caltech.edu/datasets/cub_200_2011, unpacked.",
    title="CUB-200-2011: 11,788 photographs of birds",
    publisher="Caltech (Wah et al. 2011)",
    licence="non-commercial research",
    megabytes=1_200,
    used_by="retrieval preset=paper",
    downloads=(
        Download(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            root="CUB_200_2011",
            sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        ),
    ),
)
CARS = DataFolder(
    "cars196",
    ("cars_annos.mat",),
    "Get car_ims.tgz, unpacked, and cars_annos.mat, formerly at ai.stanford.edu/~jkrause/cars.",
    title="Cars-196: 16,185 photographs of cars",
    publisher="Stanford (Krause et al. 2013)",
    licence="non-commercial research",
    megabytes=2_000,
    used_by="retrieval preset=paper dataset=cars",
)
SOP = DataFolder(
    "Stanford_Online_Products",
    ("Ebay_train.txt", "Ebay_test.txt"),
    "Get it from https://cvgl.stanford.edu/projects/lifted_struct, unpacked.",
    title="Stanford Online Products: 120,053 photographs",
    publisher="Stanford (Oh Song et al. 2016)",
    licence="not stated",
    megabytes=3_100,
    used_by="retrieval preset=paper dataset=sop",
)
INSHOP = DataFolder(
    "Inshop_Clothes",
    ("Eval/list_eval_partition.txt", "Img"),
    "Get In-shop Clothes Retrieval from https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.",
    title="In-shop Clothes Retrieval: 52,712 photographs",
    publisher="The Chinese University of Hong Kong (Liu et al. 2016)",
    licence="non-commercial research, after an agreement",
    used_by="retrieval preset=paper dataset=inshop",
)
RANDOM_VIEW = v2.Compose([v2.ToImage(), random_view()])
CENTRAL_VIEW = v2.Compose([v2.ToImage(), central_view()])
ROLES = {"train": BOTH, "query": QUERY, "gallery": GALLERY}  # in In-shop's table


class Row(NamedTuple):
    """A photograph of a data set."""

    file: str
    label: int
    is_training: bool
    role: int = BOTH


PhotoSet = tuple[DataSource, dict[str, Photographs]]  # classes of the training split count from 0


def cub(data: Path | None, *, held_out: bool = True) -> PhotoSet:
    """CUB-200-2011: classes 1 to 100 are for training, the others for the test."""
    images, table = CUB.require(data)
    with CUB.reading(table, "a table of a class for each number of images.txt"):
        class_of = dict(_lines(CUB, table, 2))
        labelled = [(name, int(class_of[number])) for number, name in _lines(CUB, images, 2)]
    rows = [Row(f"images/{name}", label, label <= 100) for name, label in labelled]
    return _photo_set("CUB-200-2011", CUB, images.parent, rows, held_out=held_out)


def cars(data: Path | None, *, held_out: bool = True) -> PhotoSet:
    """Cars-196: classes 1 to 98 are for training, the others for the test."""
    from scipy.io import loadmat

    (notes,) = CARS.require(data)
    with CARS.reading(notes, "a file of annotations"):
        table = loadmat(notes, squeeze_me=True)["annotations"]
        named = zip(table["relative_im_path"], table["class"], strict=True)
        rows = [Row(str(file), int(label), bool(label <= 98)) for file, label in named]
    return _photo_set("Cars-196", CARS, notes.parent, rows, held_out=held_out)


def sop(data: Path | None, *, held_out: bool = True) -> PhotoSet:
    """Stanford Online Products, with the archive's own halves of disjoint products."""
    tables, rows = SOP.require(data), []
    for table, is_training in zip(tables, (True, False), strict=True):
        lines = _lines(SOP, table, 4)[1:]  # after the names of the columns
        with SOP.reading(table, "a table of image_id, class_id, super_class_id, path"):
            rows += [Row(path, int(label), is_training) for _, label, _, path in lines]
    return _photo_set("Stanford Online Products", SOP, tables[0].parent, rows, held_out=held_out)


def inshop(data: Path | None, *, held_out: bool = True) -> PhotoSet:
    """In-shop Clothes Retrieval: each query is compared with the gallery."""
    table, images = INSHOP.require(data)
    lines = _lines(INSHOP, table, 3)[1:]  # after a count and the names of the columns
    with INSHOP.reading(table, "a table of image_name, item_id, evaluation_status"):
        rows = [
            Row(f"Img/{name}", int(item.rsplit("_", 1)[1]), status == "train", ROLES[status])
            for name, item, status in lines
        ]
    return _photo_set("In-shop Clothes Retrieval", INSHOP, images.parent, rows, held_out=held_out)


def _lines(source: DataFolder, table: Path, count: int) -> list[list[str]]:
    """Lines of `count` words; another first line, such as a number, is skipped."""
    with source.reading(table, "text in UTF-8"):
        rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines()]
    wrong = [number for number, row in enumerate(rows, 1) if row and len(row) != count]
    if any(number > 1 for number in wrong):
        raise source.error(
            f"{table}, line {wrong[-1]} must have {count} words, got {len(rows[wrong[-1] - 1])}"
        )
    return [row for row in rows if len(row) == count]


def _photo_set(
    about: str, source: DataFolder, folder: Path, rows: list[Row], *, held_out: bool
) -> PhotoSet:
    """The splits; if `held_out`, the last tenth of the training classes is for validation."""
    training, test = ([row for row in rows if row.is_training is which] for which in (True, False))
    classes = sorted({row.label for row in training})
    if len(classes) < 2 or not test:
        raise source.error(
            f"{folder} must have at least 2 training classes and a test photograph, got "
            f"{len(classes)} and {len(test)}"
        )
    for path in (folder / row.file for row in rows):
        if not path.is_file():
            raise source.error(f"{path} is missing, but listed in {folder}")
    count = len(classes) - (max(1, len(classes) // HELD_OUT) if held_out else 0)
    number = {label: i for i, label in enumerate(classes[:count])}
    train = [row._replace(label=number[row.label]) for row in training if row.label in number]
    validation = [row for row in training if row.label not in number]
    shares = f"{count} of {len(classes)} training classes; the others validation"
    shares = shares if held_out else f"all {count} training classes"
    parts = {"train": train, **({"validation": validation} if held_out else {}), "test": test}
    return described(f"{about} ({shares})", [folder]), {
        name: _photographs(folder, part, RANDOM_VIEW if name == "train" else CENTRAL_VIEW)
        for name, part in parts.items()
    }


def _photographs(folder: Path, rows: list[Row], transform: v2.Transform) -> Photographs:
    files = np.array([os.fsencode(row.file) for row in rows])
    labels = np.array([(row.label, row.role) for row in rows], dtype=np.int64)
    return Photographs(folder, files, labels, transform)
