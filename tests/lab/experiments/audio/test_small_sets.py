"""Small data sets in the layouts that their authors publish."""

import json

import numpy as np
import pytest
import soundfile
from tones import tone

from tangential_lab.experiments.audio import small_sets
from tangential_lab.experiments.audio.small_sets import note_pairs, sound_pairs, spoken_digits
from tangential_lab.experiments.audio.sounds import level
from tangential_lab.experiments.data.sources import DataError


def test_arrays_prepared_with_other_settings_are_not_used(recordings, esc50, home, monkeypatch):
    assert spoken_digits(home, "mixed").rate == 8000
    monkeypatch.setattr(small_sets, "DIGITS_RATE", 4000)
    assert spoken_digits(home, "mixed").rate == 4000
    assert len(sound_pairs(home).splits["test"].sound(0)) == 80_000
    monkeypatch.setattr(small_sets, "CLIP", 40_000)
    assert len(sound_pairs(home).splits["test"].sound(0)) == 40_000


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
    read = small_sets._read_digits(folder)
    names = sorted(stored)
    assert names[1] == "0_george_10.wav"
    for i, name in enumerate(names):
        samples = read["audio"][read["offsets"][i] : read["offsets"][i + 1]]
        assert np.array_equal(samples, stored[name])
        digit, speaker, take = name.removesuffix(".wav").split("_")
        assert [read[key][i] for key in ("digit", "take")] == [int(digit), int(take)]
        assert SPEAKERS[read["speaker"][i]] == speaker


@pytest.mark.parametrize(("speakers", "sizes"), [("mixed", [12, 12, 12]), ("disjoint", [24, 6, 6])])
def test_speakers_and_takes_decide_the_split(recordings, home, speakers, sizes):
    splits = spoken_digits(home, speakers).splits
    assert [len(splits[name].labels) for name in ("train", "validation", "test")] == sizes
    assert set(splits["test"].labels.tolist()) == {0, 7}
    _, stored = recordings
    last = max(name for name in stored if "_0.wav" in name or speakers == "disjoint")
    heard = splits["test"].sound(len(splits["test"].labels) - 1)
    assert np.allclose(heard, level(stored[last].astype(np.float32) / 32768))


@pytest.mark.parametrize("name", ["0_a_b_1.wav", "0_george_first.wav"])
def test_a_recording_of_another_name_is_named(recordings, home, name):
    folder, _ = recordings
    soundfile.write(folder / name, np.zeros(9), 8000)
    with pytest.raises(DataError, match=rf"{name} as a recording DIGIT_SPEAKER_TAKE\.wav"):
        spoken_digits(home, "mixed")


@pytest.mark.parametrize(
    ("lacking", "speakers", "part"),
    [("*_theo_*", "disjoint", "test"), ("*_5.wav", "mixed", "validation")],
)
def test_too_few_speakers_or_takes_are_reported(recordings, home, lacking, speakers, part):
    folder, _ = recordings
    for path in folder.glob(lacking):
        path.unlink()
    with pytest.raises(DataError, match=rf"recordings has no .* for {part} .*{speakers}.*git"):
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
    pairs = sound_pairs(home)
    assert pairs.tags == ["dog", "rain"]
    assert {name: len(part.labels) for name, part in pairs.splits.items()} == {
        "train": 3,  # a pair in each of three folds
        "validation": 1,
        "test": 1,
    }
    spectrum = np.abs(np.fft.rfft(pairs.splits["test"].sound(0)))
    assert sorted(np.argsort(spectrum)[-2:] / 5) == [100, 1100]  # Hz: both, at the new rate


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "audio/1-1-A-0.wav").unlink(), r"cannot read .*1-1-A-0\.wav"),
        (
            lambda folder: (folder / "meta/esc50.csv").write_text("a,b\n1,2"),
            "as the table of ESC-50",
        ),
        (
            lambda folder: (folder / "meta/esc50.csv").write_bytes(b"esc10\n\xe9"),
            r"esc50\.csv as the table of ESC-50.*utf-8",
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
    clips = small_sets._read_clips(paths, 40)["clips"]
    assert clips.tolist() == [[8192] * 10 + [0] * 30, [8192] * 40]


# ---- notes

FAMILIES = ("brass", "flute", "reed")


@pytest.fixture
def nsynth(home):
    """NSynth's layout: 20 notes of each of three families in two octaves, and a note above."""
    folder = home / "nsynth-test"
    (folder / "audio").mkdir(parents=True)
    notes = {}
    for number in range(61):
        family, pitch = FAMILIES[number % 3], 96 if number == 60 else 48 + number % 24
        name = f"{family}_acoustic_000-{number:03}-100"
        notes[name] = {"note_str": name, "pitch": pitch, "instrument_family_str": family}
        soundfile.write(folder / f"audio/{name}.wav", tone(100 + 10 * number, 16000, 4.0), 16000)
    (folder / "examples.json").write_text(json.dumps(notes))
    return folder


def test_notes_are_tagged_with_family_and_octave(nsynth, home):
    """Octave 7, of a single note, is no tag."""
    pairs = note_pairs(home)
    assert pairs.tags == ["brass", "flute", "octave 3", "octave 4", "reed"]
    sizes = {name: len(part.labels) for name, part in pairs.splits.items()}
    assert max(sizes["validation"], sizes["test"]) <= 12 * 11 // 2  # a fifth of 61 notes
    assert sizes["train"] > 37 * 36 // 2 * 0.7  # all pairs that have different tags
    tags = pairs.splits["train"].labels.sum(1)
    assert 2 <= tags.min() <= tags.max() <= 4
    assert len(pairs.splits["test"].sound(0)) == 40_000


def test_no_note_is_in_two_splits(nsynth, home):
    used = [set(part.sound.args[1].flatten()) for part in note_pairs(home).splits.values()]
    assert len(set.union(*used)) == sum(map(len, used)) == 61


def test_of_many_notes_some_of_every_family_are_used(nsynth, home, monkeypatch):
    monkeypatch.setattr(small_sets, "NOTES", 30)
    pairs = note_pairs(home)
    numbers = [set(part.sound.args[1].flatten()) for part in pairs.splits.values()]
    assert set.union(*numbers) == set(range(30))
    assert {"brass", "flute", "reed"} <= set(pairs.tags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"examples\.json as the table of NSynth's notes.*nsynth"),
        ('{"a": {"note_str": "a"}}', "instrument_family_str.*nsynth"),
        ("{", "JSONDecodeError.*nsynth"),
        ("{}", r"examples\.json as the table of NSynth's notes.*nsynth"),
    ],
    ids=["a list", "without families", "broken", "no notes"],
)
def test_a_broken_table_of_notes_is_named(nsynth, home, content, message):
    (nsynth / "examples.json").write_text(content)
    with pytest.raises(DataError, match=message):
        note_pairs(home)


def test_a_missing_note_is_named(nsynth, home):
    (nsynth / "audio/brass_acoustic_000-003-100.wav").unlink()
    with pytest.raises(DataError, match=r"cannot read .*brass_acoustic_000-003-100\.wav as sound"):
        note_pairs(home)
