"""Small data sets as their authors publish them, read into the arrays that others pack."""

import csv
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tangential_lab.experiments.data.sounds import Sound, read
from tangential_lab.experiments.data.sources import Arrays, DataError

DIGITS_RATE = 8000  # of the spoken digits
DRAWINGS = 20  # of a character
CELLS = ("RBC", "WBC", "Platelets")  # classes of blood cells
SIDES = ("xmin", "ymin", "xmax", "ymax")  # of a box
PARTS = ("train", "val", "test")  # of the photographs of blood cells


def spoken_digits(folder: Path) -> Arrays:
    """The recordings DIGIT_SPEAKER_TAKE.wav of a folder, one after the other.

    Returns:
        audio int16 [samples], offsets [n + 1] in it, and digit, speaker and take [n]; rate.

    Raises:
        DataError: there is none, or one is broken or has another name.
    """
    paths = sorted(folder.glob("[0-9]_*_*.wav"))
    if not paths:
        raise DataError(f"{folder} has no recording DIGIT_SPEAKER_TAKE.wav")
    named = [_spoken(path) for path in paths]
    speakers = sorted({speaker for _, speaker, _ in named})
    sounds = [in_16_bits(read(path, DIGITS_RATE)) for path in paths]
    return {
        "audio": np.concatenate(sounds),
        "offsets": np.array([*accumulate(map(len, sounds), initial=0)]),
        "digit": np.array([digit for digit, _, _ in named]),
        "speaker": np.array([speakers.index(speaker) for _, speaker, _ in named]),
        "take": np.array([take for _, _, take in named]),
        "rate": np.array(DIGITS_RATE),
    }


def _spoken(path: Path) -> tuple[int, str, int]:
    try:
        digit, speaker, take = path.stem.split("_")
        return int(digit), speaker, int(take)
    except ValueError as error:
        raise DataError(f"{path} is no recording DIGIT_SPEAKER_TAKE.wav") from error


def environmental_rows(table: Path) -> list[dict[str, Any]]:
    """The clips of ESC-10 in the table of ESC-50, class by class.

    Raises:
        DataError: the table has none, or not the columns of ESC-50.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            chosen = [row for row in csv.DictReader(file) if row["esc10"] == "True"]
        chosen.sort(key=lambda row: (int(row["target"]), row["filename"]))
        named = [
            {"file": row["filename"], "fold": int(row["fold"])}
            | {"class_id": int(row["target"]), "class": row["category"].replace("_", " ")}
            for row in chosen
        ]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{table} is no table of ESC-50: {error}") from error
    if not named:
        raise DataError(f"{table} has no clip of ESC-10")
    return named


def clips(paths: list[Path], rate: int, length: int) -> Arrays:
    """Recordings at one rate, cut or filled up with silence to one length.

    Returns:
        clips int16 [n, length].

    Raises:
        DataError: one is missing or broken.
    """
    result = np.zeros((len(paths), length), np.int16)
    for row, path in zip(result, paths, strict=True):
        sound = in_16_bits(read(path, rate))[:length]
        row[: len(sound)] = sound
    return {"clips": result}


def in_16_bits(sound: Sound) -> np.ndarray:
    """Samples as they lie in files; those that come from such are the same again."""
    return np.round(sound * 32768).clip(-32768, 32767).astype(np.int16)


def drawings(folder: Path) -> np.ndarray:
    """Drawings ALPHABET/CHARACTER/DRAWING.png with ink where black: bits [n, height, width].

    Raises:
        DataError: there is none, one is broken, or a character has not `DRAWINGS`.
    """
    from PIL import Image

    paths = sorted(folder.glob("*/*/*.png"))
    if not paths:
        raise DataError(f"{folder} has no drawing ALPHABET/CHARACTER/DRAWING.png")
    for character, own in groupby(paths, lambda path: path.parent):
        if (count := len(list(own))) != DRAWINGS:
            raise DataError(f"{character} has {count} drawings, allowed are {DRAWINGS}")
    result = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                result.append(np.asarray(picture.convert("L")) < 128)
        except OSError as error:
            raise DataError(f"{path} is no image that can be read: {error}") from error
    return np.stack(result)


def blood_cells(folder: Path) -> Arrays:
    """Photographs with boxes in Pascal VOC's layout, without boxes that have no area.

    Returns:
        jpeg (all files, one after the other), offsets [n + 1] in it, files [n] (their names), split
        [n] (0 train, 1 val, 2 test), boxes [m, 4] (xmin ymin xmax ymax), labels [m], image_index
        [m], classes.

    Raises:
        DataError: a file is missing, or one of annotations is broken.
    """
    lists = [folder / "ImageSets" / "Main" / f"{part}.txt" for part in PARTS]
    try:
        split = {name: i for i, path in enumerate(lists) for name in path.read_text().split()}
        names = sorted(split)
        files = [(folder / "JPEGImages" / f"{name}.jpg").read_bytes() for name in names]
        noted = [_noted(folder / "Annotations" / f"{name}.xml") for name in names]
    except OSError as error:
        raise DataError(f"{folder} is not complete: {error}") from error
    rows = [(i, label, *box) for i, found in enumerate(noted) for label, box in found]
    table = np.array(rows, dtype=np.int64).reshape(-1, 6)
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.array([*accumulate(map(len, files), initial=0)]),
        "files": np.array([f"{name}.jpg" for name in names]),
        "split": np.array([split[name] for name in names]),
        "boxes": table[:, 2:],
        "labels": table[:, 1],
        "image_index": table[:, 0],
        "classes": np.array(CELLS),
    }


def _noted(path: Path) -> list[tuple[int, list[int]]]:
    """Classes and boxes of a file of annotations."""
    try:
        found = []
        for item in ElementTree.parse(path).iter("object"):
            sides = [int(item.findtext(f"bndbox/{side}", "")) for side in SIDES]
            if sides[0] < sides[2] and sides[1] < sides[3]:
                found.append((CELLS.index(item.findtext("name", "")), sides))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is no file of annotations: {error}") from error
    return found
