"""Large sets of recordings, as their archives unpack: music tags, keywords, sound events."""

import csv
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tangential_lab.experiments.audio.soundsets import RATE, Part, SoundSet, filled
from tangential_lab.experiments.data.sounds import Sound, read, samples_in
from tangential_lab.experiments.data.sources import DataError, described, needed

TOP = 50  # MagnaTagATune's most frequent tags
HEADER = 1024  # bytes; a file of no more may be a header without samples
MAGNATAGATUNE = "Get it from https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset, unpacked."
COMMANDS = "Get it from http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz, unpacked."
DCASE = "Get it from https://github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-"
DCASE += "sound-event-detection-for-smart-cars, segments as WAV."
EVENTS = {  # name of a part: its table, its folder
    "training": (
        "groundtruth_weak_label_training_set.csv",
        "unbalanced_train_segments_training_set_audio_formatted_and_segmented_downloads",
    ),
    "testing": (
        "groundtruth_weak_label_testing_set.csv",
        "unbalanced_train_segments_testing_set_audio_formatted_and_segmented_downloads",
    ),
    "evaluation": (
        "groundtruth_weak_label_evaluation_set.csv",
        "evaluation_set_formatted_audio_segments",
    ),
}


def magnatagatune(data: Path | None) -> SoundSet:
    """MagnaTagATune: clips of 29 s with one or more of the `TOP` most frequent tags.

    Folders 0 to b are for training, c for tuning, d to f for the test, as published. Clips whose
    file is empty or missing are left out: the archive has three that are empty.

    Raises:
        DataError: DIR/magnatagatune/annotations_final.csv or a part's clips are missing.
    """
    (table,) = needed(data, "magnatagatune", ["annotations_final.csv"], MAGNATAGATUNE)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or "mp3_path" not in rows[0]:
        raise DataError(f"{table} has no column 'mp3_path' or no clip. {MAGNATAGATUNE}")
    names = [name for name in rows[0] if name not in ("clip_id", "mp3_path")]
    counts = Counter({name: sum(row[name] == "1" for row in rows) for name in names})
    tags = [name for name, _ in counts.most_common(TOP)]
    labels = {row["mp3_path"]: [row[tag] == "1" for tag in tags] for row in rows}
    clips = {path: of for path, of in labels.items() if any(of)}
    folders = {"train": "0123456789ab", "validation": "c", "test": "def"}
    chosen = {k: [path for path in clips if path[0] in first] for k, first in folders.items()}
    parts = {
        name: _part([table.parent / path for path in paths], [clips[path] for path in paths])
        for name, paths in chosen.items()
    }
    return _set("MagnaTagATune", table.parent, tags, parts, MAGNATAGATUNE)


def speech_commands(data: Path | None) -> SoundSet:
    """Speech Commands v2: one second of one of 35 words, with the archive's own lists.

    Raises:
        DataError: DIR/speech_commands_v0.02 has no lists, or no words.
    """
    lists = {"validation": "validation_list.txt", "test": "testing_list.txt"}
    found = needed(data, "speech_commands_v0.02", lists.values(), COMMANDS)
    folder = found[0].parent
    listed = {k: set(path.read_text().split()) for k, path in zip(lists, found, strict=True)}
    everything = sorted(p for p in folder.glob("*/*.wav") if p.parent.name[0] != "_")
    words = sorted({path.parent.name for path in everything})
    kept: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in everything:
        name = path.relative_to(folder).as_posix()
        kept[next((k for k, names in listed.items() if name in names), "train")].append(path)
    parts = {
        name: _part(paths, [words.index(path.parent.name) for path in paths])
        for name, paths in kept.items()
    }
    return _set("Speech Commands v2", folder, words, parts, COMMANDS)


def dcase(data: Path | None) -> SoundSet:
    """DCASE 2017, task 4: segments of 10 s with one or more of 17 events of traffic and warning.

    The published training and testing sets are for training, but for every tenth segment by name,
    which is for tuning; the evaluation set is for the test. Segments whose file is empty or
    missing are left out: videos vanish.

    Raises:
        DataError: DIR/dcase2017_task4 has no tables, or a part's segments are missing.
    """
    tables = needed(data, "dcase2017_task4", [table for table, _ in EVENTS.values()], DCASE)
    labels = {k: _segments(path) for k, path in zip(EVENTS, tables, strict=True)}
    tags = sorted({tag for of in labels.values() for own in of.values() for tag in own})
    folder = tables[0].parent
    known = {
        name: {folder / EVENTS[name][1] / f"Y{file}": own for file, own in of.items()}
        for name, of in labels.items()
    }
    seen = sorted((known["training"] | known["testing"]).items())
    kept = {
        "train": [item for number, item in enumerate(seen) if number % 10],
        "validation": seen[::10],
        "test": sorted(known["evaluation"].items()),
    }
    parts = {
        name: _part([path for path, _ in items], [[t in own for t in tags] for _, own in items])
        for name, items in kept.items()
    }
    return _set("DCASE 2017, task 4", folder, tags, parts, DCASE)


def _segments(table: Path) -> dict[str, set[str]]:
    """The tags of every file in a table of file, start, end, tag."""
    tags: dict[str, set[str]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
            if len(row) < 4:
                raise DataError(
                    f"{table}, line {number} is {row}, allowed is [file, start, end, tag]"
                )
            tags.setdefault(row[0], set()).add(row[3].strip())
    return tags


def _part(paths: Sequence[Path], labels: Sequence) -> Part:
    there = [i for i, path in enumerate(paths) if _has_samples(path)]
    paths = [paths[i] for i in there]
    return Part(partial(_recording, paths), _tensor([labels[i] for i in there]))


def _has_samples(path: Path) -> bool:
    size = path.stat().st_size if path.is_file() else 0
    return size > HEADER or (size > 0 and samples_in(path) > 0)


def _recording(paths: Sequence[Path], index: int) -> Sound:
    return read(paths[index], RATE)


def _tensor(labels: Sequence) -> Tensor:
    """Classes as integers, tags as 0 and 1."""
    result = torch.tensor(labels)
    return result.float() if result.dtype == torch.bool else result


def _set(
    about: str, folder: Path, tags: list[str], parts: dict[str, Part], whence: str
) -> SoundSet:
    filled(parts, about, folder, whence)
    sizes = ", ".join(f"{len(part.labels):,} to {name}" for name, part in parts.items())
    return SoundSet(described(f"{about}: {sizes}", [folder]), RATE, tags, parts)
