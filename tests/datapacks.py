"""Packs of data sets for development, converted into the layouts that the authors publish.

A pack is one archive (npz, flac, zip) instead of thousands of files. The laboratory reads only
published layouts; its tests convert the packs. By hand: `python tests/datapacks.py PACKS FOLDER`.
"""

import csv
import hashlib
import io
import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from filelock import FileLock
from PIL import Image

VERSION = 1  # of the conversions; a change makes all tests convert again
SIDE = 105  # pixels of an Omniglot drawing
HALVES = {"background": "images_background", "evaluation": "images_evaluation"}
RATE = 16000  # of the packed ESC-10 and Iowa recordings
SEMITONES = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
CIFAR_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def publish(name: str, packs: Path, folder: Path) -> Path:
    """Convert one data set, unless it was converted before, and return its folder.

    Args:
        name: The published folder, a key of `CONVERTERS`.
        packs: Folder of the packs.
        folder: Where the published folders go.
    """
    pack, convert = CONVERTERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if not (folder / name).is_dir():
            with TemporaryDirectory(dir=folder) as temporary:
                made = Path(temporary) / name
                made.mkdir()
                convert(packs / pack, made)
                made.rename(folder / name)
    return folder / name


def fingerprint(packs: Path) -> str:
    """Changes when a pack or a conversion changes."""
    files = sorted(path for path in packs.rglob("*") if path.is_file())
    sizes = [(str(path), path.stat().st_size) for path in files]
    return hashlib.sha256(repr((VERSION, sizes)).encode()).hexdigest()[:12]


# ---- sounds


def _spoken_digits(pack: Path, made: Path) -> None:
    with np.load(pack / "fsdd.npz") as arrays:
        packed = dict(arrays)
    (made / "recordings").mkdir()
    for i, (start, end) in enumerate(pairwise(packed["offsets"])):
        speaker = packed["speakers"][packed["speaker"][i]]
        file = f"{packed['digit'][i]}_{speaker}_{packed['take'][i]}.wav"
        soundfile.write(made / "recordings" / file, packed["audio"][start:end], packed["rate"])


def _clips(pack: Path, samples: int) -> tuple[list[dict[str, str]], np.ndarray]:
    audio, _ = soundfile.read(pack / "audio.flac", dtype="int16")
    with (pack / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), audio.reshape(-1, samples)


def _esc50(pack: Path, made: Path) -> None:
    rows, clips = _clips(pack, 5 * RATE)
    (made / "audio").mkdir()
    (made / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number, (row, clip) in enumerate(zip(rows, clips, strict=True)):
        file = f"{row['fold']}-{number:03}-A-{row['class_id']}.wav"
        category = row["class"].lower().replace(" ", "_")
        lines.append(f"{file},{row['fold']},{row['class_id']},{category},True,{number},A")
        soundfile.write(made / "audio" / file, clip, RATE)
    (made / "meta/esc50.csv").write_text("\n".join(lines) + "\n")


def _nsynth(pack: Path, made: Path) -> None:
    """The Iowa notes in NSynth's layout; each instrument is a separate family."""
    rows, clips = _clips(pack, 5 * RATE // 2)
    (made / "audio").mkdir()
    notes = {}
    for number, (row, clip) in enumerate(zip(rows, clips, strict=True)):
        pitch = 12 * (int(row["octave"]) + 1) + SEMITONES.index(row["pitch_class"])
        name = f"{row['instrument'].lower()}_acoustic_{number:03}-{pitch:03}-127"
        family = row["instrument"].lower()
        notes[name] = {"note_str": name, "pitch": pitch, "instrument_family_str": family}
        soundfile.write(made / "audio" / f"{name}.wav", clip, RATE)
    (made / "examples.json").write_text(json.dumps(notes))


# ---- images


def _blood_cells(pack: Path, made: Path) -> None:
    with np.load(pack / "bccd.npz") as arrays:
        packed = dict(arrays)
    folder = made / "BCCD"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for i, (start, end) in enumerate(pairwise(packed["offsets"])):
        name = str(packed["ids"][i])
        (folder / f"JPEGImages/{name}.jpg").write_bytes(packed["jpeg"][start:end].tobytes())
        chosen = np.flatnonzero(packed["image_index"] == i)
        objects = [_voc_object(packed, box) for box in chosen]
        text = f"<annotation>{''.join(objects)}</annotation>"
        (folder / f"Annotations/{name}.xml").write_text(text)
    for number, part in enumerate(("train", "val", "test")):
        names = [str(name) for name in packed["ids"][packed["split"] == number]]
        (folder / f"ImageSets/Main/{part}.txt").write_text("\n".join(names) + "\n")


def _voc_object(packed: dict[str, np.ndarray], box: int) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), packed["boxes"][box], strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    name = packed["classes"][packed["labels"][box]]
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


def _cifar10(pack: Path, made: Path) -> None:
    """JPEG copies: torchvision's checksums do not match; `cifar10_checksums` has the new ones."""
    with np.load(pack / "cifar10_jpeg.npz") as arrays:
        packed = dict(arrays)
    for part, batches in (("train", CIFAR_BATCHES), ("test", ["test_batch"])):
        jpeg, ends = packed[f"{part}_jpeg"], packed[f"{part}_offsets"]
        files = [io.BytesIO(jpeg[i:j].tobytes()) for i, j in pairwise(ends)]
        pixels = np.stack([np.asarray(Image.open(file)) for file in files])
        rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        labels = packed[f"{part}_labels"]
        parts = np.array_split(np.arange(len(rows)), len(batches))
        for batch, chosen in zip(batches, parts, strict=True):
            content = {"data": rows[chosen], "labels": labels[chosen].tolist()}
            (made / batch).write_bytes(pickle.dumps(content))
    names = [str(name) for name in packed["classes"]]
    (made / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))


def cifar10_checksums(folder: Path) -> dict[str, str]:
    """The md5 of every file, as torchvision checks it."""
    return {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def _mnist(pack: Path, made: Path) -> None:
    with np.load(pack / "mnist.npz") as packed:
        for part, name in (("train", "train"), ("test", "t10k")):
            write_mnist(made, name, packed[f"{part}_images"], packed[f"{part}_labels"])


def write_mnist(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images [n, h, w] and labels [n] as MNIST's files of `name`, "train" or "t10k"."""
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    for kind, array in (("images", images), ("labels", labels)):
        header = bytes([0, 0, 8, array.ndim])
        header += b"".join(size.to_bytes(4, "big") for size in array.shape)
        path = folder / "raw" / f"{name}-{kind}-idx{array.ndim}-ubyte"
        path.write_bytes(header + array.astype(np.uint8).tobytes())


def _omniglot(pack: Path, made: Path) -> None:
    with np.load(pack / "omniglot.npz") as arrays:
        packed = dict(arrays)
    for half, folder in HALVES.items():
        for row, bits in enumerate(packed[half]):
            character, drawing = divmod(row, 20)
            place = made / folder / f"Alphabet_{character // 100:02}/character{character:04}"
            place.mkdir(parents=True, exist_ok=True)
            ink = np.unpackbits(bits)[: SIDE * SIDE].reshape(SIDE, SIDE)
            picture = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1")
            picture.save(place / f"{character:04}_{drawing + 1:02}.png")


# ---- texts


def _wikitext2(pack: Path, made: Path) -> None:
    with zipfile.ZipFile(pack / "wikitext2.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".tokens"):
                (made / Path(name).name).write_bytes(archive.read(name))


def _tinyshakespeare(pack: Path, made: Path) -> None:
    shutil.copyfile(pack / "input.txt", made / "input.txt")


CONVERTERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "free-spoken-digit-dataset": ("fsdd", _spoken_digits),
    "ESC-50-master": ("esc10", _esc50),
    "nsynth-test": ("iowa_notes", _nsynth),
    "BCCD_Dataset": ("bccd", _blood_cells),
    "cifar-10-batches-py": ("cifar10_jpeg", _cifar10),
    "MNIST": ("mnist", _mnist),
    "omniglot-py": ("omniglot", _omniglot),
    "wikitext-2": ("wikitext2", _wikitext2),
    "tinyshakespeare": ("tinyshakespeare", _tinyshakespeare),
}


if __name__ == "__main__":
    packs, folder = map(Path, sys.argv[1:])
    for name, (pack, _) in CONVERTERS.items():
        if (packs / pack).is_dir():
            print(publish(name, packs, folder))
