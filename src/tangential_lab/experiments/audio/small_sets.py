"""Small sets of recordings: spoken digits, pairs of environmental sounds, pairs of notes.

Missing or broken files, and an empty split, raise a DataError.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import accumulate, combinations
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tangential_lab.experiments.audio.sounds import Sound, SoundSet, SoundSplit, level, read
from tangential_lab.experiments.data.sources import (
    Arrays,
    DataFolder,
    Download,
    described,
    github_archive,
    prepared,
)
from tangential_lab.experiments.data.splits import stratified, three_splits

DIGITS_RATE = 8000  # samples per second of the spoken digits
RATE = 16000  # of everything else
CLIP = 5 * RATE  # samples of an environmental sound
NOTE = 5 * RATE // 2  # samples of a note
NOTES = 160  # notes used, at most: an epoch has all pairs of training notes
FEW_NOTES = 5  # a family or octave with fewer notes is no tag
SPLIT_SEED = 0  # the pairs are the same for every trial: seeds vary the weights and the batches
PAIRS = 400  # for validation, and for the test
FSDD = DataFolder(
    "free-spoken-digit-dataset",
    ("recordings",),
    "Get it by `git clone https://github.com/Jakobovski/free-spoken-digit-dataset`.",
    title="Free Spoken Digit Dataset: 3,000 recordings",
    publisher="Z. Jackson and contributors",
    licence="CC BY-SA 4.0",
    megabytes=21,
    used_by="audio",
    downloads=(
        github_archive(
            "Jakobovski/free-spoken-digit-dataset", "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
        ),
    ),
    sha256="1b72db738dba16aaa4763496bd1a8cbce8eb85d030c9e6ae2c9f45f894372fe5",
)
ESC50 = DataFolder(
    "ESC-50-master",
    ("meta/esc50.csv", "audio"),
    "Get ESC-50, which contains ESC-10, from https://github.com/karolpiczak/ESC-50, unpacked.",
    title="ESC-50: 2,000 environmental sounds, of which 400 are ESC-10",
    publisher="K. J. Piczak",
    licence="CC BY-NC 3.0; ESC-10: CC BY 3.0",
    megabytes=882,
    used_by="audio subject=events",
    downloads=(
        Download(
            "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip",
            root="ESC-50-master",
        ),
    ),
)
NSYNTH = DataFolder(
    "nsynth-test",
    ("examples.json", "audio"),
    "Get NSynth's test split (json/wav) from https://magenta.tensorflow.org/datasets/nsynth, "
    "unpacked.",
    title="NSynth, the test split: 4,096 single notes",
    publisher="Google Magenta (Engel et al. 2017)",
    licence="CC BY 4.0",
    megabytes=524,
    used_by="audio subject=music",
    downloads=(
        Download(
            "http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-test.jsonwav.tar.gz",
            root="nsynth-test",
        ),
    ),
)
Speakers = Literal["mixed", "disjoint"]


def spoken_digits(data: Path | None, speakers: Speakers) -> SoundSet:
    """The Free Spoken Digit Dataset at its own 8 kHz: ten digits, six speakers.

    All recordings are scaled to the same level: otherwise the level alone would identify a speaker.

    With speakers "mixed", takes 0 to 4 of every speaker are for the test (the official split), 5 to
    9 for validation; with "disjoint", the sixth speaker is for the test, the fifth for validation.
    """
    (folder,) = FSDD.require(data)
    source = described(f"Free Spoken Digit Dataset, {speakers} speakers", [folder])
    arrays = prepared(f"fsdd-{DIGITS_RATE}", source, partial(_read_digits, folder))
    if speakers == "mixed":
        validation, test = arrays["take"] // 5 == 1, arrays["take"] < 5
    else:
        validation, test = arrays["speaker"] == 4, arrays["speaker"] == 5
    splits = {}
    for name, mask in (("train", ~validation & ~test), ("validation", validation), ("test", test)):
        chosen = np.flatnonzero(mask)
        sound = partial(_digit, arrays["audio"], arrays["offsets"], chosen)
        splits[name] = SoundSplit(sound, torch.tensor(arrays["digit"][chosen].astype(np.int64)))
    return SoundSet(source, DIGITS_RATE, list("0123456789"), splits).complete(FSDD, folder)


def _read_digits(folder: Path) -> Arrays:
    """Recordings DIGIT_SPEAKER_TAKE.wav one after the other, and where each starts and ends."""
    paths = sorted(folder.glob("[0-9]_*_*.wav"))
    names = []
    for path in paths:
        with FSDD.reading(path, "a recording DIGIT_SPEAKER_TAKE.wav"):
            digit, speaker, take = path.stem.split("_")
            names.append((int(digit), speaker, int(take)))
    if not paths:
        raise FSDD.error(f"{folder} has no recording DIGIT_SPEAKER_TAKE.wav")
    speakers = sorted({speaker for _, speaker, _ in names})
    sounds = [_in_16_bits(read(path, DIGITS_RATE)) for path in paths]
    return {
        "audio": np.concatenate(sounds),
        "offsets": np.array([*accumulate(map(len, sounds), initial=0)]),
        "digit": np.array([digit for digit, _, _ in names]),
        "speaker": np.array([speakers.index(speaker) for _, speaker, _ in names]),
        "take": np.array([take for _, _, take in names]),
    }


def _digit(audio: np.ndarray, offsets: np.ndarray, chosen: np.ndarray, index: int) -> Sound:
    number = chosen[index]
    return _leveled(audio[offsets[number] : offsets[number + 1]])


def sound_pairs(data: Path | None) -> SoundSet:
    """Pairs of ESC-10's clips of 5 s, of one fold and of different classes, mixed at equal level.

    Folds 1 to 3 are for training, in all their pairs. Fold 4 is for validation and fold 5 for the
    test, in `PAIRS` pairs each, which are always the same.
    """
    table, folder = ESC50.require(data)
    with ESC50.reading_text(table, "the table of ESC-50") as file:
        rows = [row for row in csv.DictReader(file) if row["esc10"] == "True"]
        rows.sort(key=lambda row: (int(row["target"]), row["filename"]))
        names = [row["category"].replace("_", " ") for row in rows]
        folds = np.array([int(row["fold"]) for row in rows])
    if not rows:
        raise ESC50.error(f"{table} has no clip of ESC-10")
    files = [folder / row["filename"] for row in rows]
    tags = list(dict.fromkeys(names))
    labels = torch.tensor([[float(tag == name) for tag in tags] for name in names])
    splits = {"train": (1, 2, 3), "validation": (4,), "test": (5,)}
    groups = {
        name: [np.flatnonzero(folds == fold) for fold in chosen] for name, chosen in splits.items()
    }
    source = described("ESC-10, clips mixed in pairs", [table, *filter(Path.is_file, files)])
    clips = prepared(f"esc10-{RATE}-{CLIP}", source, partial(_read_clips, files, CLIP))["clips"]
    return SoundSet(source, RATE, tags, _mixed(clips, labels, groups)).complete(ESC50, folder)


def note_pairs(data: Path | None) -> SoundSet:
    """Pairs of single notes of NSynth's test split, 2.5 s of each, mixed at equal level.

    `NOTES` notes are used, of all families of instruments. A fifth of them is for validation and a
    fifth for the test, where `PAIRS` pairs are always the same. Tags are the families and the
    octaves of both notes.
    """
    table, folder = NSYNTH.require(data)
    with NSYNTH.reading(table, "the table of NSynth's notes"):
        notes = list(json.loads(table.read_bytes()).values())
        files = np.array([f"{note['note_str']}.wav" for note in notes])
        families = np.array([str(note["instrument_family_str"]) for note in notes])
        octaves = np.array([f"octave {note['pitch'] // 12 - 1}" for note in notes])
        chosen = np.arange(len(files))
        if len(files) > NOTES:
            chosen = np.sort(stratified(families, NOTES, len(files) - NOTES)[0])
        splits = three_splits(families[chosen], len(chosen) // 5)
    families, octaves = families[chosen], octaves[chosen]
    counts = Counter([*families.tolist(), *octaves.tolist()])
    tags = sorted(tag for tag, count in counts.items() if count >= FEW_NOTES)
    labels = torch.tensor(
        [[float(t in pair) for t in tags] for pair in zip(families, octaves, strict=True)]
    )
    paths = [folder / file for file in files[chosen]]
    source = described("NSynth's test split, notes in pairs", [table, *filter(Path.is_file, paths)])
    read_notes = partial(_read_clips, paths, NOTE)
    clips = prepared(f"nsynth-{len(paths)}-{RATE}-{NOTE}", source, read_notes)["clips"]
    groups = {name: [members] for name, members in splits.items()}
    return SoundSet(source, RATE, tags, _mixed(clips, labels, groups)).complete(NSYNTH, folder)


def _mixed(
    clips: np.ndarray, labels: Tensor, groups: dict[str, list[np.ndarray]]
) -> dict[str, SoundSplit]:
    """Pairs of clips of one group that have different tags.

    "train" has all of them, changed at random; each other split has `PAIRS` of them, unchanged.
    """
    generator, splits = np.random.default_rng(SPLIT_SEED), {}
    for name, members in groups.items():
        pairs = [pair for group in members for pair in combinations(group.tolist(), 2)]
        pairs = [(i, j) for i, j in pairs if not torch.equal(labels[i], labels[j])]
        is_training = name == "train"
        chosen = np.array(pairs if is_training else generator.permutation(pairs)[:PAIRS])
        chosen = chosen.reshape(-1, 2).astype(np.int64)
        sound = partial(_pair, clips, chosen, _random_sum if is_training else np.add)
        splits[name] = SoundSplit(sound, labels[torch.from_numpy(chosen)].amax(1))
    return splits


def _pair(clips: np.ndarray, pairs: np.ndarray, mix: Callable[..., Sound], index: int) -> Sound:
    return mix(*(_leveled(clips[clip]) for clip in pairs[index]))


def _random_sum(first: Sound, second: Sound) -> Sound:
    """The sum of both, each rotated in time, the second up to 6 dB louder or softer."""
    turns = torch.randint(len(first), (2,)).tolist()
    gain = 10 ** (0.6 * torch.rand(()).item() - 0.3)
    return np.roll(first, turns[0]) + np.float32(gain) * np.roll(second, turns[1])


def _read_clips(paths: list[Path], length: int) -> Arrays:
    """Recordings at `RATE` as 16-bit clips [n, length], cut or padded with silence."""
    clips = np.zeros((len(paths), length), np.int16)
    for clip, path in zip(clips, paths, strict=True):
        sound = _in_16_bits(read(path, RATE))[:length]
        clip[: len(sound)] = sound
    return {"clips": clips}


def _in_16_bits(sound: Sound) -> np.ndarray:
    """16-bit samples; those of a 16-bit file come out unchanged."""
    return np.round(sound * 32768).clip(-32768, 32767).astype(np.int16)


def _leveled(samples: np.ndarray) -> Sound:
    return level(samples.astype(np.float32) / 32768)
