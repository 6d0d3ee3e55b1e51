"""The published data sets, on tiny folders of the same layout."""

import csv
import pickle

import numpy as np
import pytest
import soundfile
import torch
from rehearsal import rehearse
from tones import tone

from tangential_lab.experiments.audio import large_sets
from tangential_lab.experiments.audio.harmonic_cnn import HarmonicCNN, HarmonicFilters
from tangential_lab.experiments.audio.task import audio
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.training import NO_HANDOVER, cosine_schedule


def sounds_in(folder, names, seconds, rate=16000, form="WAV"):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(200 + 50 * number, rate, seconds), rate, format=form)


def tiny_commands(home):
    folder = home / "speech_commands_v0.02"
    names = [f"{word}/{i}_nohash_0.wav" for word in ("yes", "no", "up") for i in range(4)]
    sounds_in(folder, [*names, "_background_noise_/hum.wav"], 0.8)
    (folder / "validation_list.txt").write_text("".join(f"{n}\n" for n in names if "/2_" in n))
    (folder / "testing_list.txt").write_text("".join(f"{n}\n" for n in names if "/3_" in n))


def tiny_music(home):
    folder = home / "magnatagatune"
    tags = ["guitar", "slow", "no voice"]
    names = [f"{place}/clip{i}.mp3" for place in "0bcf" for i in range(3)]
    sounds_in(folder, names, 6, form="MP3")
    (folder / "0/empty.mp3").write_bytes(b"")
    soundfile.write(folder / "0/header.mp3", np.zeros(0), 16000, format="WAV")
    rows = [["clip_id", *tags, "mp3_path"]]
    for number, name in enumerate([*names, "0/empty.mp3", "0/header.mp3"]):
        rows.append([number, int(number % 3 == 0), int(number % 2), int(number % 3 == 1), name])
    with (folder / "annotations_final.csv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL).writerows(rows)


def tiny_events(home):
    folder = home / "dcase2017_task4"
    for number, (table, place) in enumerate(large_sets.EVENTS):
        names = [f"id{number}{i}_30.000_40.000.wav" for i in range(8)]
        sounds_in(folder / place, [f"Y{name}" for name in names], 3, rate=8000)
        lines = [f"{name}\t30.0\t40.0\t{'Bus' if i % 2 else 'Car'}" for i, name in enumerate(names)]
        lines.append(f"{names[0]}\t30.0\t40.0\tTrain")
        lines.append("vanished_0.000_10.000.wav\t0.0\t10.0\tBus")
        soundfile.write(folder / place / "Yzero.wav", np.zeros(0), 16000)
        lines.append("zero.wav\t0.0\t10.0\tBus")
        (folder / table).write_text("\n".join(lines) + "\n")


TINY = {"keywords": tiny_commands, "music": tiny_music, "events": tiny_events}


@pytest.fixture(params=["keywords", "music", "events"])
def tiny(request, tmp_path):
    """A subject and its task; keywords use a thin net, because the published one is slow."""
    TINY[request.param](tmp_path / "data")
    task = audio(preset="paper", data=tmp_path / "data", subject=request.param)
    task = task._replace(batch_size=3, loader_workers=0)
    if request.param == "keywords":
        return request.param, task
    tags = task.splits["train"].labels.shape[1]
    thin = lambda: HarmonicCNN(tags, HarmonicFilters(16000), width=4)
    return request.param, task._replace(model=thin)


@pytest.mark.slow
def test_paper_steps_stops_and_resumes(tiny, tmp_path):
    """Two steps, and one step and another after a stop, end in the same weights."""
    _, task = tiny
    rehearse(task, tmp_path)
    assert len(task.groups(task.model())) == 1  # of one learning rate, as published


def test_paper_splits(tiny):
    """Sizes follow the lists, without recordings that are empty, missing or without tags."""
    name, task = tiny
    sounds, _ = task.splits["test"].__getitems__([0, 1])
    sizes = tuple(len(task.splits[part]) for part in ("train", "validation", "test"))
    assert (sizes, sounds.shape) == {
        "keywords": ((6, 3, 3), (2, 1, 16000)),
        "music": ((5, 2, 3), (2, 16, 80000)),
        "events": ((14, 2, 8), (2, 1, 160000)),
    }[name]
    pickle.loads(pickle.dumps(task.splits))  # processes that load batches may need it


def test_the_published_schedule(tmp_path):
    """Adam for 80 of 200 epochs; then SGD: 20 epochs at 1e-3, 20 at 1e-4, 80 at 1e-5."""
    tiny_commands(tmp_path)
    task = audio(preset="paper", data=tmp_path, schedule="published")
    assert task.epochs == 200
    rates = [task.schedule(epoch / 200) for epoch in (0, 80, 99, 100, 119, 120, 199)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert task.handover == (80 / 200, "sgd", {"lr": 1e-3, "weight_decay": 1e-4})
    usual = audio(preset="paper", data=tmp_path)
    assert usual.schedule is cosine_schedule
    assert usual.handover is NO_HANDOVER


def test_all_of_dcases_training_segments_are_trained_on_if_none_is_held_out(tmp_path):
    tiny_events(tmp_path)
    options = {"preset": "paper", "data": tmp_path, "subject": "events"}
    parts, usual = (audio(**options, held_out=held_out).splits for held_out in (False, True))
    assert {name: len(part) for name, part in parts.items()} == {"train": 16, "test": 8}
    seen = torch.cat([usual["train"].labels, usual["validation"].labels]).sum(0)
    assert torch.equal(parts["train"].labels.sum(0), seen)


@pytest.mark.parametrize(
    ("preset", "subject"), [("mini", "events"), ("paper", "keywords"), ("paper", "music")]
)
def test_held_out_is_refused_where_a_validation_split_is_published(preset, subject, tmp_path):
    expected = f"held_out must be True with preset '{preset}' and subject '{subject}', got False"
    with pytest.raises(ValueError, match=expected):
        audio(preset=preset, data=tmp_path, subject=subject, held_out=False)


def test_an_empty_split_is_named(tmp_path):
    tiny_commands(tmp_path)
    (tmp_path / "speech_commands_v0.02" / "validation_list.txt").write_text("")
    with pytest.raises(DataError, match="has no recording for validation"):
        audio(preset="paper", data=tmp_path)


def test_a_small_file_without_sound_is_named_before_training(tmp_path):
    tiny_commands(tmp_path)
    (tmp_path / "speech_commands_v0.02/yes/0_nohash_0.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"cannot read .*yes/0_nohash_0\.wav as sound"):
        audio(preset="paper", data=tmp_path)


def test_a_broken_table_is_named(tmp_path):
    tiny_events(tmp_path)
    table = tmp_path / "dcase2017_task4" / "groundtruth_weak_label_testing_set.csv"
    table.write_text("a.wav\t1.0\n")
    with pytest.raises(DataError, match=r"testing_set\.csv, line 1 must be .*, got \['a\.wav', '1"):
        audio(preset="paper", data=tmp_path, subject="events")


def test_an_empty_table_is_named(tmp_path):
    tiny_music(tmp_path)
    (tmp_path / "magnatagatune" / "annotations_final.csv").write_text("clip_id\tguitar\n1\t0\n")
    with pytest.raises(DataError, match=r"annotations_final\.csv as a table .*'mp3_path'"):
        audio(preset="paper", data=tmp_path, subject="music")
