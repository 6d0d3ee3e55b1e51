"""Small data sets as their authors publish them are those that are packed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from tangential_lab.experiments.audio import soundsets
from tangential_lab.experiments.audio.soundsets import sound_pairs, spoken_digits
from tangential_lab.experiments.data import layouts
from tangential_lab.experiments.data.sources import DataError, prepared
from tangential_lab.experiments.detection.annotations import bccd
from tangential_lab.experiments.language import texts
from tangential_lab.experiments.retrieval.characters import omniglot
from tangential_lab.training import DataSource

# ---- what is prepared once


def test_another_process_may_have_prepared_the_same_meanwhile(home, monkeypatch):
    rename = Path.rename

    def late(whole, place):
        place.mkdir()
        np.save(place / "a.npy", np.arange(3))
        return rename(whole, place)

    monkeypatch.setattr(Path, "rename", late)
    found = prepared("test", DataSource("numbers", "0" * 16), lambda: {"a": np.arange(3)})
    assert found["a"].tolist() == [0, 1, 2]
    assert len(list((home.parent / "cache/tangential/prepared").iterdir())) == 1  # nothing is left


def test_what_cannot_be_kept_is_told(home, monkeypatch):
    def full(whole, place):
        raise OSError("no space")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        prepared("test", DataSource("numbers", "0" * 16), lambda: {"a": np.arange(3)})


def test_what_was_prepared_by_other_settings_is_not_taken(recordings, esc50, home, monkeypatch):
    assert spoken_digits(home, "mixed").rate == 8000
    monkeypatch.setattr(layouts, "DIGITS_RATE", 4000)
    assert spoken_digits(home, "mixed").rate == 4000
    assert len(sound_pairs(home).parts["test"].sound(0)) == 80_000
    monkeypatch.setattr(soundsets, "CLIP", 40_000)
    assert len(sound_pairs(home).parts["test"].sound(0)) == 40_000


# ---- spoken digits

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


@pytest.fixture
def recordings(home):
    """Two digits by six speakers, takes 0, 5 and 10, of different lengths."""
    folder = home / "free-spoken-digit-dataset" / "recordings"
    folder.mkdir(parents=True)
    drawn, stored = np.random.default_rng(0), {}
    for digit in (0, 7):
        for speaker in SPEAKERS:
            for take in (0, 5, 10):
                samples = drawn.integers(-32768, 32768, 300 + 7 * len(stored), dtype=np.int16)
                stored[f"{digit}_{speaker}_{take}.wav"] = samples
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", samples, 8000)
    return folder, stored


def test_recordings_are_read_bit_for_bit_in_the_order_of_their_names(recordings):
    folder, stored = recordings
    read = layouts.spoken_digits(folder)
    names = sorted(stored)
    assert names[1] == "0_george_10.wav"
    for i, name in enumerate(names):
        samples = read["audio"][read["offsets"][i] : read["offsets"][i + 1]]
        assert np.array_equal(samples, stored[name])
        digit, speaker, take = name.removesuffix(".wav").split("_")
        assert [read[key][i] for key in ("digit", "take")] == [int(digit), int(take)]
        assert SPEAKERS[read["speaker"][i]] == speaker


@pytest.mark.parametrize("speakers", ["mixed", "disjoint"])
def test_both_layouts_are_the_same_digits(recordings, home, speakers):
    folder, _ = recordings
    loose = spoken_digits(home, speakers)
    (home / "fsdd").mkdir()
    np.savez(home / "fsdd/fsdd.npz", **layouts.spoken_digits(folder))
    packed = spoken_digits(home, speakers)
    assert packed.data.checksum != loose.data.checksum  # which shows that the other was taken
    assert {name: len(part.labels) for name, part in loose.parts.items()} == (
        {"train": 12, "validation": 12, "test": 12}
        if speakers == "mixed"
        else {"train": 24, "validation": 6, "test": 6}
    )
    for name, part in loose.parts.items():
        assert torch.equal(part.labels, packed.parts[name].labels)
        assert np.array_equal(part.sound(3), packed.parts[name].sound(3))


@pytest.mark.parametrize("name", ["0_a_b_1.wav", "0_george_first.wav"])
def test_a_recording_of_another_name_is_named(recordings, home, name):
    folder, _ = recordings
    soundfile.write(folder / name, np.zeros(9), 8000)
    with pytest.raises(DataError, match=rf"{name} is no recording DIGIT_SPEAKER_TAKE\.wav"):
        spoken_digits(home, "mixed")


@pytest.mark.parametrize(
    ("lacking", "speakers", "part"),
    [("*_theo_*", "disjoint", "test"), ("*_5.wav", "mixed", "validation")],
)
def test_too_few_speakers_or_takes_are_told(recordings, home, lacking, speakers, part):
    folder, _ = recordings
    for path in folder.glob(lacking):
        path.unlink()
    with pytest.raises(DataError, match=rf"recordings has no .*'{part}' of .*{speakers}.*git"):
        spoken_digits(home, speakers)


# ---- environmental sounds


@pytest.fixture
def esc50(home):
    """Two of ESC-10's classes in five folds, and a class that is not one of them."""
    folder = home / "ESC-50-master"
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, name, in_ten in ((10, "rain", True), (0, "dog", True), (5, "cat", False)):
            file = f"{fold}-1-A-{target}.wav"
            lines.append(f"{file},{fold},{target},{name},{in_ten},1,A")
            if in_ten:
                wave = np.sin(np.arange(5 * 44100) * 2 * np.pi * 100 * (1 + target) / 44100)
                soundfile.write(folder / "audio" / file, 0.5 * wave, 44100)
    (folder / "meta/esc50.csv").write_text("\n".join(lines))
    return folder


def test_esc10_is_found_in_esc50(esc50, home):
    rows = layouts.environmental_rows(esc50 / "meta/esc50.csv")
    assert [row["class"] for row in rows] == ["dog"] * 5 + ["rain"] * 5
    pairs = sound_pairs(home)
    assert pairs.tags == ["dog", "rain"]
    assert {name: len(part.labels) for name, part in pairs.parts.items()} == {
        "train": 3,  # a pair in each of three folds
        "validation": 1,
        "test": 1,
    }
    spectrum = np.abs(np.fft.rfft(pairs.parts["test"].sound(0)))
    assert sorted(np.argsort(spectrum)[-2:] / 5) == [100, 1100]  # Hz: both, at the new rate


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "audio/1-1-A-0.wav").unlink(), r"1-1-A-0\.wav cannot be read"),
        (lambda folder: (folder / "meta/esc50.csv").write_text("a,b\n1,2"), "no table of ESC-50"),
        (
            lambda folder: (folder / "meta/esc50.csv").write_bytes(b"esc10\n\xe9"),
            r"esc50\.csv is no table of ESC-50.*utf-8",
        ),
        (lambda folder: (folder / "meta/esc50.csv").write_text("esc10\nFalse"), "no clip of ESC"),
    ],
)
def test_a_broken_esc50_is_named(esc50, home, spoil, message):
    spoil(esc50)
    with pytest.raises(DataError, match=message):
        sound_pairs(home)


def test_short_recordings_are_filled_up_and_long_ones_cut(tmp_path):
    for name, length in (("short.wav", 10), ("long.wav", 90)):
        soundfile.write(tmp_path / name, np.full(length, 0.25), 16000)
    paths = [tmp_path / "short.wav", tmp_path / "long.wav"]
    clips = layouts.clips(paths, 16000, 40)["clips"]
    assert clips.tolist() == [[8192] * 10 + [0] * 30, [8192] * 40]


# ---- drawings


@pytest.fixture
def drawn(home):
    """Omniglot's layout: two characters of twenty drawings in either half."""
    bits = np.random.default_rng(0).random((2, 40, 105, 105)) < 0.1
    for half, some in zip(("images_background", "images_evaluation"), bits, strict=True):
        for i, ink in enumerate(some):
            folder = home / "omniglot-py" / half / "Alphabet" / f"character{i // 20 + 1:02}"
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1")
            picture.save(folder / f"{i // 20:04}_{i % 20 + 1:02}.png")
    return bits


def test_both_layouts_are_the_same_drawings(drawn, home, monkeypatch):
    monkeypatch.setattr("tangential_lab.experiments.retrieval.characters.TUNING_CLASSES", 1)
    loose, splits = omniglot(home)
    packed = {
        half: np.packbits(bits.reshape(40, -1), axis=1)
        for half, bits in zip(("background", "evaluation"), drawn, strict=True)
    }
    (home / "omniglot").mkdir()
    np.savez(home / "omniglot/omniglot.npz", **packed)
    other, again = omniglot(home)
    assert loose.checksum != other.checksum
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 20,
        "validation": 20,
        "test": 40,
    }
    for name, split in splits.items():
        assert torch.equal(split.drawings, again[name].drawings)
    square = drawn[0, 0, :3, :3].mean()
    assert splits["train"].drawings[0, 0, 0, 0] == round(255 * square)


def test_drawings_that_are_none_are_named(home):
    for half in ("images_background", "images_evaluation"):
        (home / "omniglot-py" / half).mkdir(parents=True)
    with pytest.raises(DataError, match=r"images_background has no drawing ALPHABET/CHARACTER"):
        omniglot(home)


def test_a_broken_or_missing_drawing_is_named(drawn, home):
    """Which is not there would give its label to the next one."""
    path = home / "omniglot-py/images_background/Alphabet/character01/0000_07.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0000_07\.png is no image that can be read"):
        omniglot(home)
    path.unlink()
    with pytest.raises(DataError, match=r"Alphabet/character01 has 19 drawings, allowed are 20"):
        omniglot(home)


# ---- blood cells

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


def test_both_layouts_are_the_same_cells(cells, home):
    loose = bccd(home)
    (home / "bccd").mkdir()
    np.savez(home / "bccd/bccd.npz", **layouts.blood_cells(cells))
    packed = bccd(home)
    assert loose.data.checksum != packed.data.checksum
    assert loose.classes == packed.classes == ("RBC", "WBC", "Platelets")
    for name, split in loose.splits.items():
        (images, (target,)), (others, (same,)) = (
            s.__getitems__([0]) for s in (split, packed.splits[name])
        )
        assert torch.equal(images, others)
        assert all(torch.equal(target[key], same[key]) for key in target)
    images, (target,) = loose.splits["test"].__getitems__([0])
    assert images.shape == (1, 3, 240, 320)  # half the size, and so are the boxes
    assert target["boxes"].tolist() == [[5, 10, 55, 110], [0, 0, 10, 20]]
    assert target["labels"].tolist() == [1, 0]
    assert not len(loose.splits["train"].__getitems__([0])[1][0]["labels"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "JPEGImages/b.jpg").unlink(), "BCCD is not complete.*b.jpg"),
        (lambda folder: (folder / "JPEGImages/b.jpg").write_bytes(b"no"), "BCCD is broken"),
        (lambda folder: (folder / "Annotations/c.xml").write_text("<a>"), r"c\.xml is no file of"),
        (
            lambda folder: (folder / "Annotations/c.xml").write_text(
                f"<a>{OBJECT.format('dog', 1, 1, 2, 2)}</a>"
            ),
            r"c\.xml is no file of annotations",
        ),
    ],
)
def test_broken_cells_are_named(cells, home, spoil, message):
    spoil(cells)
    with pytest.raises(DataError, match=message):
        bccd(home)


# ---- words


def test_the_files_of_wikitext2_need_no_zip(home):
    (home / "wikitext-2").mkdir()
    for file in texts.FILES:
        (home / "wikitext-2" / file).write_text("a b a\n<unk> c\n")
    text = texts.wikitext2(home)
    assert text.vocabulary[0] == "a"
    assert len(text.parts["train"]) == 7
