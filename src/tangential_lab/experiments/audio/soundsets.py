"""Small sets of recordings: spoken digits, pairs of environmental sounds, pairs of notes."""

import csv
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tangential_lab.experiments.data import layouts
from tangential_lab.experiments.data.packed import unpacked
from tangential_lab.experiments.data.sounds import Sound, level
from tangential_lab.experiments.data.sources import (
    Arrays,
    DataError,
    described,
    found,
    needed,
    prepared,
    read_as,
)
from tangential_lab.training import DataSource

RATE = 16000  # but for the spoken digits
CLIP = 5 * RATE  # samples of an environmental sound
NOTE = 5 * RATE // 2  # of a note
SPLIT_SEED = 0  # one choice of pairs for all: seeds vary initialisation and batches
PAIRS = 400  # of each evaluation
FSDD = "Get it from https://github.com/Jakobovski/free-spoken-digit-dataset by git clone."
ESC10 = "Get ESC-50, of which it is a part, from https://github.com/karolpiczak/ESC-50, unpacked."
IOWA = "Get it from https://theremin.music.uiowa.edu, packed in audio.flac and index.csv."
FIELDS = ("audio", "offsets", "digit", "speaker", "take", "rate")
Speakers = Literal["mixed", "disjoint"]
Mix = Callable[[Sound, Sound], Sound]


class Part(NamedTuple):
    """Recordings by number, and their labels [n], or [n, tags] of 0 and 1."""

    sound: Callable[[int], Sound]
    labels: Tensor


class SoundSet(NamedTuple):
    """Recordings at one rate, in disjoint parts: "train", "validation", "test"."""

    data: DataSource
    rate: int
    tags: list[str]
    parts: dict[str, Part]


def spoken_digits(data: Path | None, speakers: Speakers) -> SoundSet:
    """The Free Spoken Digit Dataset at its own 8 kHz, ten digits of six speakers.

    All at one level: speakers differ by theirs, and one who was never heard by it alone.

    Args:
        data: The folder of data sets.
        speakers: "mixed": takes 0 to 4 of everybody are for the test (the official split), 5 to 9
            for tuning. "disjoint": the sixth speaker is for the test, the fifth for tuning.

    Raises:
        DataError: neither free-spoken-digit-dataset/recordings nor fsdd/fsdd.npz, which packs it,
            is there, or it is broken or lacks speakers or takes.
    """
    about = f"Free Spoken Digit Dataset, {speakers} speakers"
    if paths := found(data, "fsdd", ["fsdd.npz"], FSDD):
        source, packed = described(about, paths), unpacked(paths[0], FIELDS, FSDD)
    else:
        paths = needed(data, "free-spoken-digit-dataset", ["recordings"], FSDD)
        source = described(about, paths)
        make = partial(layouts.spoken_digits, paths[0])
        packed = prepared(f"fsdd-{layouts.DIGITS_RATE}", source, make)
    if speakers == "mixed":
        validation, test = packed["take"] // 5 == 1, packed["take"] < 5
    else:
        validation, test = packed["speaker"] == 4, packed["speaker"] == 5
    which = {"train": ~validation & ~test, "validation": validation, "test": test}
    parts = {name: _digits(packed, np.flatnonzero(mask)) for name, mask in which.items()}
    tags = [str(digit) for digit in range(10)]
    filled(parts, about, paths[0], FSDD)
    return SoundSet(source, int(packed["rate"]), tags, parts)


def filled(parts: dict[str, Part], about: str, place: Path, whence: str) -> None:
    """See that no part is empty.

    Raises:
        DataError: one is.
    """
    for name, part in parts.items():
        if not len(part.labels):
            raise DataError(f"{place} has no recording of the part {name!r} of {about}. {whence}")


def _digits(packed: Arrays, chosen: np.ndarray) -> Part:
    sound = partial(_digit, packed["audio"], packed["offsets"], chosen)
    return Part(sound, torch.tensor(packed["digit"][chosen].astype(np.int64)))


def _digit(audio: np.ndarray, ends: np.ndarray, chosen: np.ndarray, index: int) -> Sound:
    number = chosen[index]
    return level(_full_scale(audio[ends[number] : ends[number + 1]]))


def sound_pairs(data: Path | None) -> SoundSet:
    """Pairs of ESC-10's clips of 5 s, of one fold and of different classes, mixed at one level.

    Folds 1 to 3 are for training, in all their pairs. Fold 4 is for tuning, fold 5 for the test,
    in `PAIRS` pairs each, always the same.

    Raises:
        DataError: neither ESC-50-master nor esc10/audio.flac and esc10/index.csv, which pack it,
            are there, or they are broken.
    """
    about, rows, clips = _environmental(data)
    tags = [name for _, name in sorted({(row["class_id"], row["class"]) for row in rows})]
    labels = torch.tensor([[float(tag == row["class"]) for tag in tags] for row in rows])
    folds = np.array([row["fold"] for row in rows])
    which = {"train": (1, 2, 3), "validation": (4,), "test": (5,)}
    pairs = {
        name: [pair for fold in own for pair in _pairs(np.flatnonzero(folds == fold), labels)]
        for name, own in which.items()
    }
    return SoundSet(about, RATE, tags, _mixed(clips, labels, pairs))


def _environmental(data: Path | None) -> tuple[DataSource, list[dict[str, Any]], np.ndarray]:
    """ESC-10's clips [n, samples] of 5 s, and what each is."""
    name = "ESC-10, clips mixed in pairs"
    if paths := found(data, "esc10", ["audio.flac", "index.csv"], ESC10):
        columns = {"class_id": int, "class": str.strip, "fold": int}
        source, rows = described(name, paths), _rows(paths[1], columns, ESC10)
        make = partial(_clips, paths[0], len(rows), CLIP, ESC10)
    else:
        table, folder = needed(data, "ESC-50-master", ["meta/esc50.csv", "audio"], ESC10)
        rows = layouts.environmental_rows(table)
        files = [folder / row["file"] for row in rows]
        source = described(name, [table, *(file for file in files if file.is_file())])
        make = partial(layouts.clips, files, RATE, CLIP)
    return source, rows, prepared(f"esc10-{RATE}-{CLIP}", source, make)["clips"]


def note_pairs(data: Path | None) -> SoundSet:
    """Pairs of single notes of four instruments (University of Iowa), 2.5 s, mixed at one level.

    A fifth of the notes each is held out for tuning and for the test, where `PAIRS` pairs are
    always the same. Tags are the instruments and the octaves, 3 to 6, that sound; no vibrato, which
    the instrument decides, and no pitch class, which 94 notes do not teach.

    Raises:
        DataError: iowa_notes/audio.flac or iowa_notes/index.csv is missing or broken.
    """
    from sklearn.model_selection import train_test_split

    paths = needed(data, "iowa_notes", ["audio.flac", "index.csv"], IOWA)
    about = described("Notes of the University of Iowa, in pairs", paths)
    rows = _rows(paths[1], {"instrument": str.strip, "octave": int}, IOWA)
    make = partial(_clips, paths[0], len(rows), NOTE, IOWA)
    clips = prepared(f"iowa_notes-{RATE}-{NOTE}", about, make)["clips"]
    names = [{row["instrument"], f"octave {row['octave']}"} for row in rows]
    tags = sorted(set().union(*names) - {"octave 7"})  # a single note
    labels = torch.tensor([[float(tag in own) for tag in tags] for own in names])
    apart = partial(train_test_split, test_size=len(rows) // 5, random_state=SPLIT_SEED)
    kinds = np.array([row["instrument"] for row in rows])
    rest, test = apart(np.arange(len(rows)), stratify=kinds)
    train, validation = apart(rest, stratify=kinds[rest])
    which = {"train": train, "validation": validation, "test": test}
    pairs = {name: _pairs(own, labels) for name, own in which.items()}
    return SoundSet(about, RATE, tags, _mixed(clips, labels, pairs))


def _pairs(members: Iterable[int], labels: Tensor) -> list[tuple[int, int]]:
    """All pairs of members that have different tags."""
    pairs = combinations(map(int, members), 2)
    return [(i, j) for i, j in pairs if not torch.equal(labels[i], labels[j])]


def _mixed(clips: np.ndarray, labels: Tensor, pairs: dict[str, list]) -> dict[str, Part]:
    """The parts: all pairs for training, changed by chance, and some of the others as they are."""
    draw, parts = np.random.default_rng(SPLIT_SEED), {}
    for name, own in pairs.items():
        is_training = name == "train"
        chosen = np.array(own) if is_training else draw.permutation(own)[:PAIRS]
        sound = partial(_pair, clips, chosen, _by_chance if is_training else _as_they_are)
        parts[name] = Part(sound, labels[torch.from_numpy(chosen)].amax(1))
    return parts


def _pair(clips: np.ndarray, pairs: np.ndarray, mix: Mix, index: int) -> Sound:
    return mix(*(level(_full_scale(clips[clip])) for clip in pairs[index]))


def _as_they_are(first: Sound, second: Sound) -> Sound:
    return first + second


def _by_chance(first: Sound, second: Sound) -> Sound:
    """Either turned around, the second up to 6 dB louder or softer."""
    turns = torch.randint(len(first), (2,)).tolist()
    gain = 10 ** (0.6 * torch.rand(()).item() - 0.3)
    return np.roll(first, turns[0]) + np.float32(gain) * np.roll(second, turns[1])


# ---- files


def _rows(path: Path, columns: Mapping[str, Callable], whence: str) -> list[dict[str, Any]]:
    """These columns of a table, and what they hold."""
    with (
        read_as(f"table with columns {', '.join(columns)}", path, whence),
        path.open(newline="", encoding="utf-8") as file,
    ):
        return [
            {name: read(row[name]) for name, read in columns.items()}
            for row in csv.DictReader(file)
        ]


def _clips(path: Path, count: int, length: int, whence: str) -> Arrays:
    """The recordings of a file that holds `count` of this length, end to end."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.SoundFileError as error:
        raise DataError(f"{path} cannot be read as sound: {error}") from error
    if (rate, samples.shape[1]) != (RATE, 1):
        raise DataError(
            f"{path} has {samples.shape[1]} channels at {rate} Hz, allowed is one at {RATE} Hz"
        )
    if not count or len(samples) != count * length:
        raise DataError(
            f"{path} has {len(samples)} samples, allowed are {length} for each of the {count} "
            f"lines of index.csv. {whence}"
        )
    return {"clips": samples.reshape(count, length)}


def _full_scale(samples: np.ndarray) -> Sound:
    return samples.astype(np.float32) / 32768
