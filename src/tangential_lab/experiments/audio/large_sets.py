"""Large sets of recordings, in the layout of their archives: music tags, keywords, sound events.

A missing or broken table, and an empty split, raise a DataError.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tangential_lab.experiments.audio.small_sets import RATE
from tangential_lab.experiments.audio.sounds import Sound, SoundSet, SoundSplit, count_samples, read
from tangential_lab.experiments.data.sources import DataFolder, Download, described
from tangential_lab.experiments.data.splits import hold_out

TOP = 50  # most frequent tags of MagnaTagATune
HELD_OUT = 10  # one in HELD_OUT training segments of DCASE is for validation
HEADER = 1024  # bytes; a file that is not larger may have no samples
MAGNATAGATUNE = DataFolder(
    "magnatagatune",
    ("annotations_final.csv",),
    "Get it from https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset, unpacked.",
    title="MagnaTagATune: 25,863 clips of music with tags",
    publisher="City, University of London (Law et al. 2009)",
    licence="CC BY-NC-SA 3.0",
    megabytes=3_000,
    used_by="audio preset=paper subject=music",
)
COMMAND_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
COMMANDS = DataFolder(
    "speech_commands_v0.02",
    tuple(COMMAND_LISTS.values()),
    "Get it from http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz, unpacked.",
    title="Speech Commands v2: 105,829 recordings of 35 words",
    publisher="Google (Warden 2018)",
    licence="CC BY 4.0",
    megabytes=3_400,
    used_by="audio preset=paper",
    downloads=(
        Download(
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
    ),
)
EVENTS = (  # table and folder of the training, testing and evaluation set
    (
        "groundtruth_weak_label_training_set.csv",
        "unbalanced_train_segments_training_set_audio_formatted_and_segmented_downloads",
    ),
    (
        "groundtruth_weak_label_testing_set.csv",
        "unbalanced_train_segments_testing_set_audio_formatted_and_segmented_downloads",
    ),
    ("groundtruth_weak_label_evaluation_set.csv", "evaluation_set_formatted_audio_segments"),
)
DCASE = DataFolder(
    "dcase2017_task4",
    tuple(table for table, _ in EVENTS),
    "Get it from https://github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-"
    "sound-event-detection-for-smart-cars, segments as WAV.",
    title="DCASE 2017, task 4: sounds of traffic and warning",
    publisher="B. Elizalde, A. Shah and others (part of AudioSet)",
    licence="labels CC BY 4.0; sounds by their owners on YouTube",
    used_by="audio preset=paper subject=events",
)


def magnatagatune(data: Path | None) -> SoundSet:
    """MagnaTagATune: clips of 29 s with one or more of the `TOP` most frequent tags.

    Folders 0 to b are for training, c for validation, d to f for the test, as published. Clips
    whose file is empty or missing are left out: the archive has three that are empty.
    """
    (table,) = MAGNATAGATUNE.require(data)
    columns = "columns clip_id, one per tag, mp3_path"
    with MAGNATAGATUNE.reading_text(table, f"a table with {columns}") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
        names = [name for name in rows[0] if name not in ("clip_id", "mp3_path")]
        counts = Counter({name: sum(row[name] == "1" for row in rows) for name in names})
        tags = [name for name, _ in counts.most_common(TOP)]
        labels = {row["mp3_path"]: [row[tag] == "1" for tag in tags] for row in rows}
    splits: dict[str, dict[Path, list[bool]]] = {"train": {}, "validation": {}, "test": {}}
    for path in (path for path, of in labels.items() if any(of)):
        split = {"c": "validation", "d": "test", "e": "test", "f": "test"}.get(path[0], "train")
        splits[split][table.parent / path] = labels[path]
    return _sound_set("MagnaTagATune", MAGNATAGATUNE, table.parent, tags, splits)


def speech_commands(data: Path | None) -> SoundSet:
    """Speech Commands v2: one second of one of 35 words, with the archive's own lists."""
    lists = COMMANDS.require(data)
    folder = lists[0].parent
    split_of = {
        folder / name: split
        for split, path in zip(COMMAND_LISTS, lists, strict=True)
        for name in path.read_text().split()
    }
    paths = sorted(p for p in folder.glob("*/*.wav") if p.parent.name[0] != "_")
    words = sorted({path.parent.name for path in paths})
    splits: dict[str, dict[Path, int]] = {"train": {}, "validation": {}, "test": {}}
    for path in paths:
        splits[split_of.get(path, "train")][path] = words.index(path.parent.name)
    return _sound_set("Speech Commands v2", COMMANDS, folder, words, splits)


def dcase(data: Path | None, *, held_out: bool = True) -> SoundSet:
    """DCASE 2017, task 4: segments of 10 s with one or more of 17 events of traffic and warning.

    The published training and testing sets are for training; if `held_out`, every tenth segment by
    name is for validation instead. The evaluation set is for the test. Segments whose file is empty
    or missing are left out: some videos are no longer online.
    """
    tables = DCASE.require(data)
    folder = tables[0].parent
    training, testing, evaluation = (
        {folder / place / f"Y{file}": named for file, named in _segments(table).items()}
        for (_, place), table in zip(EVENTS, tables, strict=True)
    )
    segments = training | testing | evaluation
    tags = sorted(set().union(*segments.values()))
    available = sorted(training | testing)
    indices = hold_out(len(available), HELD_OUT, held_out=held_out)
    paths = {name: [available[i] for i in chosen] for name, chosen in indices.items()}
    paths["test"] = sorted(evaluation)
    splits = {
        name: {path: [tag in segments[path] for tag in tags] for path in chosen}
        for name, chosen in paths.items()
    }
    return _sound_set("DCASE 2017, task 4", DCASE, folder, tags, splits)


def _segments(table: Path) -> dict[str, set[str]]:
    """The tags of every file in a table of file, start, end, tag."""
    tags: dict[str, set[str]] = {}
    with DCASE.reading_text(table, "a table of file, start, end, tag") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
            if len(row) < 4:
                raise DCASE.error(
                    f"{table}, line {number} must be file, start, end and tag, got {row}"
                )
            tags.setdefault(row[0], set()).add(row[3].strip())
    return tags


def _sound_set(
    about: str,
    source: DataFolder,
    folder: Path,
    tags: list[str],
    labels: Mapping[str, Mapping[Path, Any]],
) -> SoundSet:
    splits = {name: _split(label_of) for name, label_of in labels.items()}
    sizes = ", ".join(f"{len(split.labels):,} to {name}" for name, split in splits.items())
    data = described(f"{about}: {sizes}", [folder])
    return SoundSet(data, RATE, tags, splits).complete(source, folder)


def _split(label_of: Mapping[Path, Any]) -> SoundSplit:
    """The recordings whose file has samples; classes as integers, tags as 0 and 1."""
    sizes = {path: path.stat().st_size if path.is_file() else 0 for path in label_of}
    paths = [p for p, size in sizes.items() if size > HEADER or (size and count_samples(p))]
    labels = torch.tensor([label_of[path] for path in paths])
    is_tags = labels.dtype == torch.bool
    return SoundSplit(partial(_recording, paths), labels.float() if is_tags else labels)


def _recording(paths: Sequence[Path], index: int) -> Sound:
    return read(paths[index], RATE)
