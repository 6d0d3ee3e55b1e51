"""Sets of photographs for retrieval, as their archives unpack."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential_lab.experiments.data.sources import DataError, described, needed, read_as
from tangential_lab.training import DataSource

BOTH, QUERY, GALLERY = 0, 1, 2  # what an image is in evaluation: is asked for, is found, or both
HELD = 10  # every so many of the training classes, the last ones, are kept for tuning
CUB = "Get it from https://www.vision.caltech.edu/datasets/cub_200_2011, unpacked."
CARS = "Get car_ims.tgz, unpacked, and cars_annos.mat, once at ai.stanford.edu/~jkrause/cars."
SOP = "Get it from https://cvgl.stanford.edu/projects/lifted_struct, unpacked."
INSHOP = "Get In-shop Clothes Retrieval from https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion."


class Photographs(NamedTuple):
    """Image files, their classes and roles."""

    paths: list[Path]
    labels: Tensor
    roles: Tensor

    def of(self, chosen: Tensor) -> "Photographs":
        """Some of them."""
        numbers = chosen.nonzero().flatten()
        paths = [self.paths[i] for i in numbers.tolist()]
        return Photographs(paths, self.labels[numbers], self.roles[numbers])


class PhotoSet(NamedTuple):
    """Photographs in parts of disjoint classes; training classes count from 0."""

    data: DataSource
    parts: dict[str, Photographs]


def cub(data: Path | None) -> PhotoSet:
    """CUB-200-2011: classes 1 to 100 are for training, the others for the test.

    Raises:
        DataError: files are missing or broken.
    """
    files = ["images.txt", "image_class_labels.txt"]
    images, classes = needed(data, "CUB_200_2011", files, CUB)
    rows = _lines(images, 2, CUB)
    paths = [images.parent / "images" / name for _, name in rows]
    with read_as("table of a class for each number of images.txt", classes, CUB):
        known = dict(_lines(classes, 2, CUB))
        labels = [int(known[number]) for number, _ in rows]
    return _by_class("CUB-200-2011", images.parent, paths, labels, last=100)


def cars(data: Path | None) -> PhotoSet:
    """Cars-196: classes 1 to 98 are for training, the others for the test.

    Raises:
        DataError: files are missing or broken.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    (notes,) = needed(data, "cars196", ["cars_annos.mat"], CARS)
    with read_as("file of annotations", notes, CARS):
        try:
            marked = loadmat(notes, squeeze_me=True)["annotations"]
        except MatReadError as error:
            raise ValueError(error) from error
        paths = [notes.parent / str(name) for name in marked["relative_im_path"]]
        labels = [int(label) for label in marked["class"]]
    return _by_class("Cars-196", notes.parent, paths, labels, last=98)


def sop(data: Path | None) -> PhotoSet:
    """Stanford Online Products, with the archive's own halves of disjoint products.

    Raises:
        DataError: files are missing or broken.
    """
    halves = ["Ebay_train.txt", "Ebay_test.txt"]
    tables = needed(data, "Stanford_Online_Products", halves, SOP)
    folder = tables[0].parent
    train, test = map(_products, tables)
    return _set("Stanford Online Products", folder, train, test)


def _products(table: Path) -> Photographs:
    rows = _lines(table, 4, SOP)[1:]  # the names come before
    with read_as("table of image_id, class_id, super_class_id, path", table, SOP):
        labels = [int(label) for _, label, _, _ in rows]
    return _photographs([table.parent / path for _, _, _, path in rows], labels)


def inshop(data: Path | None) -> PhotoSet:
    """In-shop Clothes Retrieval: queries are answered from the gallery.

    Raises:
        DataError: files are missing or broken.
    """
    partition = "Eval/list_eval_partition.txt"
    (table,) = needed(data, "Inshop_Clothes", [partition, "Img"], INSHOP)[:1]
    # a count and the names come before
    folder, rows = table.parent.parent, _lines(table, 3, INSHOP)[1:]
    known = {"train": BOTH, "query": QUERY, "gallery": GALLERY}
    with read_as("table of image_name, item_id, evaluation_status", table, INSHOP):
        items = [int(item.rsplit("_", 1)[1]) for _, item, _ in rows]
        roles = [known[kind] for _, _, kind in rows]
    every = _photographs([folder / "Img" / name for name, _, _ in rows], items, roles)
    train = every.roles == BOTH
    return _set("In-shop Clothes Retrieval", folder, every.of(train), every.of(~train))


def _lines(table: Path, fields: int, whence: str) -> list[list[str]]:
    """Lines of so many words; others at the top, such as a count, are skipped."""
    with read_as("text in UTF-8", table, whence):
        rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines()]
    wrong = [number for number, row in enumerate(rows, 1) if row and len(row) != fields]
    if any(number > 1 for number in wrong):
        raise DataError(f"{table}, line {wrong[-1]}: allowed are {fields} words. {whence}")
    return [row for row in rows if len(row) == fields]


def _photographs(
    paths: list[Path], labels: Sequence[int], roles: Iterable[int] | None = None
) -> Photographs:
    given = torch.tensor(list(roles)) if roles else torch.full((len(paths),), BOTH)
    return Photographs(paths, torch.tensor(labels), given)


def _by_class(
    about: str, folder: Path, paths: list[Path], labels: list[int], last: int
) -> PhotoSet:
    every = _photographs(paths, labels)
    return _set(about, folder, every.of(every.labels <= last), every.of(every.labels > last))


def _set(about: str, folder: Path, train: Photographs, test: Photographs) -> PhotoSet:
    """The parts; the last tenth of the training classes is for tuning.

    Raises:
        DataError: there are less than two training classes, or an image is missing.
    """
    classes, numbers = train.labels.unique(return_inverse=True)
    if len(classes) < 2 or not len(test.labels):
        raise DataError(f"{folder} has {len(classes)} training classes, allowed are 2 or more")
    kept = len(classes) - max(1, len(classes) // HELD)
    held = numbers >= kept
    parts = {
        "train": train._replace(labels=numbers).of(~held),
        "validation": train.of(held),
        "test": test,
    }
    for path in (path for part in parts.values() for path in part.paths):
        if not path.is_file():
            raise DataError(f"{path} is missing, and listed in {folder}")
    shares = f"{kept} of {len(classes)} training classes; the others validation"
    return PhotoSet(described(f"{about} ({shares})", [folder]), parts)


@dataclass(frozen=True)
class Opened:
    """A split of photographs, opened when asked for; batches are images, labels and roles."""

    photographs: Photographs
    transform: Callable[[Any], Tensor]

    def __len__(self) -> int:
        """Number of photographs, not of fields."""
        return len(self.photographs.paths)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of these photographs."""
        paths, labels, roles = self.photographs
        images = torch.stack([self.transform(opened(paths[i])) for i in indices])
        return images, labels[torch.tensor(indices)], roles[torch.tensor(indices)]


def opened(path: Path) -> Any:
    """The picture of a file, in colour.

    Raises:
        DataError: it is missing or broken.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}") from error
