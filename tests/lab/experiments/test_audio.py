"""Audio: recordings, harmonic filters against closed forms, and the tasks on real and tiny data."""

import csv
import math
import pickle

import numpy as np
import pytest
import soundfile
import torch
from realdata import DATA, needs
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from tangential import audit
from tangential_lab.experiments.audio import soundarchives
from tangential_lab.experiments.audio.harmonic_cnn import HarmonicCNN, HarmonicFilters
from tangential_lab.experiments.audio.task import _predict, _tagged, _words, audio
from tangential_lab.experiments.data.sounds import Recordings, cut, level, read
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.training import OPTIMIZERS, ProcessShare, Spec, training_batches
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped


def tone(hz, rate, seconds=1.0, amplitude=0.5):
    time = np.arange(round(rate * seconds)) / rate
    return (amplitude * np.sin(2 * math.pi * hz * time)).astype(np.float32)


def pitch_hz(sound, rate):
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return np.argmax(spectrum) * rate / len(sound)


# ---- recordings


@pytest.mark.parametrize("form", ["wav", "flac", "ogg"])
def test_formats_are_read(form, tmp_path):
    path = tmp_path / f"tone.{form}"
    soundfile.write(path, tone(440, 16000), 16000)
    sound = read(path, 16000)
    assert sound.shape == (16000,)
    assert sound.dtype == np.float32
    assert np.abs(sound - tone(440, 16000)).max() < (0.02 if form == "ogg" else 1e-4)


@pytest.mark.parametrize("own", [8000, 22050, 44100])
def test_another_rate_is_resampled(own, tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(440, own), own)
    sound = read(tmp_path / "tone.wav", 16000)
    assert len(sound) == 16000
    assert pitch_hz(sound, 16000) == pytest.approx(440, abs=1)
    assert np.abs(sound - tone(440, 16000))[500:-500].max() < 5e-3


def test_resampling_leaves_no_mirror_image(tmp_path):
    """7 kHz, which 8 kHz cannot hold, would come back as 1 kHz."""
    soundfile.write(tmp_path / "high.wav", tone(7000, 16000), 16000)
    assert np.abs(read(tmp_path / "high.wav", 8000))[500:-500].max() < 5e-3


def test_channels_are_averaged(tmp_path):
    both = np.stack([tone(440, 16000), 3 * tone(440, 16000, amplitude=0.1)], 1)
    soundfile.write(tmp_path / "stereo.wav", both, 16000, subtype="FLOAT")
    assert np.allclose(read(tmp_path / "stereo.wav", 16000), both.mean(1))


def write_noise(path):
    path.write_bytes(b"no sound at all" * 100)


def write_nothing(path):
    soundfile.write(path, np.zeros(0), 16000)


def write_infinity(path):
    soundfile.write(path, np.array([0.0, math.inf]), 16000, subtype="FLOAT")


def write_zero_bytes(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (write_noise, "cannot be read as sound"),
        (write_zero_bytes, "cannot be read as sound"),
        (write_nothing, "is empty, allowed is"),
        (write_infinity, "not finite"),
        (lambda path: None, "cannot be read as sound"),
    ],
)
def test_errors_name_the_file(write, why, tmp_path):
    write(tmp_path / "broken.wav")
    with pytest.raises(DataError, match=rf"broken\.wav .*{why}"):
        read(tmp_path / "broken.wav", 16000)


def test_a_file_cut_off_gives_what_is_left(tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, tone(440, 16000), 16000)
    path.write_bytes(path.read_bytes()[:16044])
    assert len(read(path, 16000)) == 8000


def test_cut():
    sound = np.arange(1, 6, dtype=np.float32)
    assert [cut(sound, 3, place).tolist() for place in (0, 0.5, 1)] == [
        [1, 2, 3],
        [2, 3, 4],
        [3, 4, 5],
    ]
    assert cut(sound, 7, 0.5).tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert cut(sound, 7, 1).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert cut(sound, 5, 0.3).tolist() == sound.tolist()


def test_level():
    assert np.square(level(tone(440, 16000))).mean() == pytest.approx(0.01)
    assert not level(np.zeros(9, np.float32)).any()


def test_chunks_are_spread_evenly():
    split = Recordings(lambda i: np.arange(160, dtype=np.float32), torch.tensor([3]), 80, chunks=4)
    sounds, labels = split.__getitems__([0])
    assert sounds.shape == (1, 4, 80)
    assert sounds[0, :, 0].tolist() == [10, 30, 50, 70]
    assert labels.tolist() == [3]


def test_chance_is_torchs():
    split = Recordings(lambda i: np.arange(160, dtype=np.float32), torch.zeros(8), 80)
    drawn = [(torch.manual_seed(seed), split.__getitems__([0, 1, 2])[0])[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


# ---- harmonic filters


def test_filters_are_at_the_harmonics_of_half_semitones():
    notes = HarmonicFilters(16000).notes.double()
    assert len(notes) == 128
    assert notes[0].item() == pytest.approx(440 * 2 ** (-45 / 12))  # C1
    assert torch.allclose(notes[1:] / notes[:-1], torch.tensor(2 ** (1 / 24)).double(), atol=1e-6)
    assert 6 * notes[-1] < 8000


@pytest.mark.parametrize("q", [0.5, 1.0, 3.0])
def test_responses_are_the_published_triangles(q):
    """Centre h f0 and width (.1079 h f0 + 24.7)/Q, measured on a fine grid of frequencies."""
    filters = HarmonicFilters(16000, n_fft=2**16)
    filters.q.data.fill_(q)
    with torch.no_grad():
        responses = filters.responses().double()
    bin_hz = 16000 / 2**16
    hz = torch.arange(len(responses)).double() * bin_hz
    for harmonic in (1, 3, 6):
        for note in (20, 64, 127):
            centre = harmonic * 440 * 2 ** ((24 + note / 2 - 69) / 12)
            width = (0.1079 * centre + 24.7) / q
            triangle = responses[:, (harmonic - 1) * 128 + note]
            if centre + width / 2 > 8000:  # a part of it is above what can be heard
                continue
            passed = hz[triangle > 0]
            assert (triangle * hz).sum() / triangle.sum() == pytest.approx(centre, abs=bin_hz / 2)
            assert passed[-1] - passed[0] == pytest.approx(width, abs=2.1 * bin_hz)
            assert triangle.sum() * bin_hz == pytest.approx(width / 2, rel=0.01)
            assert triangle.max() == pytest.approx(1, abs=2 * bin_hz / width)


def test_a_tone_is_heard_as_computed_by_hand():
    """Hann's window gives a tone of amplitude a on bin k the powers (a n/4)^2 (1/4, 1, 1/4)."""
    filters, n, k = HarmonicFilters(16000), 512, 40
    with torch.no_grad():
        heard = filters(torch.from_numpy(tone(k * 16000 / n, 16000))[None])
        passed = filters.responses()[k - 1 : k + 2]
    power = (0.5 * n / 4) ** 2 * torch.tensor([0.25, 1, 0.25]) @ passed
    expected = 10 * power.clamp_min(1e-10).log10().view(6, 128)
    middle = heard[0, :, :, heard.shape[-1] // 2]
    loud = expected > -30  # elsewhere rounding is louder
    assert loud.sum() > 20
    assert torch.allclose(middle[loud], expected[loud], atol=0.01)


def test_harmonics_of_a_sweep_follow_it():
    """From 200 to 1,000 Hz: the first harmonic's loudest band rises with it, the second halves."""
    rate, seconds = 16000, 4.0
    time = torch.arange(int(rate * seconds)) / rate
    low, high = 200.0, 1000.0
    phase = 2 * math.pi * (low * time + (high - low) * time**2 / (2 * seconds))
    filters = HarmonicFilters(rate, n_fft=2048)
    with torch.no_grad():
        heard = filters((0.5 * phase.sin())[None])[0]
    at = torch.arange(heard.shape[-1]) * 1024 / rate
    hz = (low + (high - low) * at / seconds)[4:-4]
    for harmonic in (1, 2):
        loudest = filters.notes[heard[harmonic - 1].argmax(0)[4:-4]]
        assert ((loudest * harmonic / hz).log2().abs() < 1.5 / 12).all()


def test_q_is_learned():
    filters = HarmonicFilters(16000)
    filters(torch.randn(2, 16000)).mean().backward()
    assert filters.q.grad is not None
    assert filters.q.grad.abs() > 1e-3


def test_half_precision_does_not_overflow():
    filters = HarmonicFilters(16000)
    with torch.autocast("cpu", torch.float16):
        heard = filters(10 * torch.from_numpy(tone(440, 16000))[None])
    assert heard.dtype == torch.float32
    assert heard.isfinite().all()


def test_the_published_net():
    """3.63 million weights; the published code has 1,920 more, biases before BatchNorms."""
    net = HarmonicCNN(50, HarmonicFilters(16000))
    assert sum(p.numel() for p in net.parameters()) == 3_629_119
    assert net(torch.randn(2, 80000)).shape == (2, 50)


@pytest.mark.parametrize("samples", [8000, 16000, 80000, 160000])
def test_any_length_is_heard(samples):
    net = HarmonicCNN(7, HarmonicFilters(16000), width=4, residual=False).eval()
    assert net(torch.randn(2, samples)).shape == (2, 7)


def test_the_audit_finds_convolutions_scale_invariant():
    """The first block's too, whose input is normalised; Q and the last layer are not."""
    torch.manual_seed(1)
    net = HarmonicCNN(5, HarmonicFilters(8000, per_semitone=1), width=4, dropout=0.0)
    result = audit(net, [torch.randn(6, 8000) for _ in range(3)])
    invariant = set(result.names("row"))
    assert invariant == {
        *(f"blocks.{i}.conv.weight" for i in range(7)),
        *(f"blocks.{i}.second.0.weight" for i in (1, 2, 3, 5, 6)),
        "head.2.weight",
    }


# ---- mini


@pytest.mark.parametrize(
    ("options", "folder", "sizes", "shape"),
    [
        ({}, "fsdd", (2400, 300, 300), (8000,)),
        ({"speakers": "disjoint"}, "fsdd", (2000, 500, 500), (8000,)),
        pytest.param(
            {"subject": "events"}, "esc10", (8640, 400, 400), (80000,), marks=needs("esc10")
        ),
        pytest.param({"subject": "music"}, "iowa_notes", None, (40000,), marks=needs("iowa_notes")),
    ],
)
@needs("fsdd")
def test_mini_steps_and_scores(options, folder, sizes, shape):
    task = audio(data=DATA, **options)
    if sizes:
        assert tuple(len(task.splits[name]) for name in ("train", "validation", "test")) == sizes
    sounds, labels = next(training_batches(task, seed=1, first=0, part=ProcessShare()))
    assert sounds.shape == (task.batch_size, 1, *shape)
    if labels.dim() > 1:  # one to four tags a pair
        assert ((labels.sum(1) >= 1) & (labels.sum(1) <= 4)).all()
    model = task.model()
    loss = task.loss(model, (sounds, labels))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    with torch.no_grad():
        scores = task.score([task.predict(model, (sounds, labels))])
    assert {task.metric.name, "loss"} <= set(scores)


@needs("fsdd")
def test_the_width_of_minis_filters_learns_slowly():
    """Else it runs away at SGD's rates, and with it what the net hears."""
    task = audio(data=DATA)
    model = task.model()
    others, filters = task.groups(model)
    assert [id(p) for p in filters["params"]] == [id(model.filters.q)]
    assert filters["lr_scale"] == 0.1
    assert len(others["params"]) == len(list(model.parameters())) - 1


@needs("fsdd")
def test_speakers_of_the_parts_are_disjoint():
    packed = np.load(DATA / "fsdd" / "fsdd.npz")
    task = audio(data=DATA, speakers="disjoint")
    speakers = {
        name: set(packed["speaker"][split.sound.args[2]]) for name, split in task.splits.items()
    }
    assert speakers == {"train": {0, 1, 2, 3}, "validation": {4}, "test": {5}}
    assert "disjoint speakers" in task.about


@needs("esc10")
def test_pairs_are_of_one_fold_and_of_two_classes():
    rows = list(csv.DictReader((DATA / "esc10" / "index.csv").read_text().splitlines()))
    task = audio(data=DATA, subject="events")
    folds = {
        name: {tuple(int(rows[i]["fold"]) for i in pair) for pair in split.sound.args[1]}
        for name, split in task.splits.items()
    }
    assert folds == {"train": {(1, 1), (2, 2), (3, 3)}, "validation": {(4, 4)}, "test": {(5, 5)}}
    assert all((split.labels.sum(1) == 2).all() for split in task.splits.values())


@needs("esc10")
def test_evaluation_is_always_the_same():
    first, second = (audio(data=DATA, subject="events").splits["test"] for _ in range(2))
    assert torch.equal(first.__getitems__([3])[0], second.__getitems__([3])[0])


@needs("fsdd")
def test_a_short_training_hears_digits():
    """Two of forty epochs; chance is 10 %."""
    task = audio(data=DATA)
    record = trial(task, epochs=2).train()
    assert record["score"] > 0.4


@pytest.mark.parametrize("subject", ["keywords", "events", "music"])
@pytest.mark.parametrize("preset", ["mini", "paper"])
def test_missing_data_are_named(preset, subject, tmp_path, monkeypatch):
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    for where in (None, tmp_path):
        with pytest.raises(DataError, match=r"is needed\. Get .*(from|by) "):
            audio(preset=preset, data=where, subject=subject)


def test_broken_archives_are_named(tmp_path):
    for name, files in (("fsdd", ["fsdd.npz"]), ("esc10", ["audio.flac", "index.csv"])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"class_id,class,fold\n0,a,1\n")
    with pytest.raises(DataError, match=r"fsdd\.npz is broken"):
        audio(data=tmp_path)
    np.savez(tmp_path / "fsdd" / "fsdd.npz", audio=np.zeros(9))
    with pytest.raises(DataError, match=r"fsdd\.npz is broken: .*offsets"):
        audio(data=tmp_path)
    with pytest.raises(DataError, match=r"audio\.flac cannot be read as sound"):
        audio(data=tmp_path, subject="events")


@pytest.mark.parametrize(
    ("shape", "rate", "why"),
    [
        ((20, 2), 16000, "has 2 channels at 16000 Hz, allowed is one at 16000 Hz"),
        ((20,), 8000, "has 1 channels at 8000 Hz"),
        ((4 * 80_000,), 16000, "has 320000 samples, allowed are 80000 for each of the 2 lines"),
    ],
)
def test_packed_recordings_of_another_form_are_named(shape, rate, why, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tangential_lab.experiments.data.sources.user_cache_path", lambda name: tmp_path / "cache"
    )
    (tmp_path / "esc10").mkdir()
    soundfile.write(tmp_path / "esc10/audio.flac", np.zeros(shape), rate)
    (tmp_path / "esc10/index.csv").write_text("clip,class_id,class,fold\n0,0,a,1\n1,1,b,1\n")
    with pytest.raises(DataError, match=rf"audio\.flac {why}"):
        audio(data=tmp_path, subject="events")


@pytest.mark.parametrize(
    ("subject", "folder", "table", "expected"),
    [
        ("events", "esc10", b"class_id,fold\n0,1\n", "class_id, class, fold: 'class'"),
        ("events", "esc10", b"class_id,class,fold\n0,a,?\n", r"class_id, class, fold: .*'\?'"),
        ("events", "esc10", b"class_id,class,fold\n0\n", "class_id, class, fold: "),
        ("events", "esc10", b"class_id,class,fold\n0,\xe9,1\n", "class_id, class, fold: .*utf-8"),
        ("music", "iowa_notes", b"instrument\nFlute\n", "instrument, octave: 'octave'"),
    ],
)
def test_a_broken_index_is_named(subject, folder, table, expected, tmp_path):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "audio.flac").write_bytes(b"")
    (tmp_path / folder / "index.csv").write_bytes(table)
    with pytest.raises(DataError, match=rf"index\.csv is no table with columns {expected}.*Get "):
        audio(data=tmp_path, subject=subject)


# ---- scores


def test_tag_scores_are_scikit_learns():
    generator = np.random.default_rng(0)
    truth = (generator.random((60, 5)) < 0.3).astype(np.float32)
    truth[:, 4] = 0  # nobody has it: it has no curves
    probability = generator.random((60, 5)).astype(np.float32)
    batches = zip(*(torch.from_numpy(x).split(25) for x in (probability, truth)), strict=True)
    scores = _tagged(list(batches))
    told = truth[:, :4], probability[:, :4]
    assert scores["ROC-AUC"] == pytest.approx(roc_auc_score(*told, average="macro"), abs=1e-5)
    assert scores["PR-AUC"] == pytest.approx(
        average_precision_score(*told, average="macro"), abs=1e-5
    )
    assert scores["F1"] == pytest.approx(f1_score(truth, probability > 0.1, average="micro"))


def test_word_scores():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    scores = _words([(probabilities, torch.tensor([0, 1, 2]))])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["loss"] == pytest.approx(-math.log(0.7 * 0.25 * 0.8) / 3)


def test_chunks_of_a_recording_are_averaged():
    """As probabilities, not as logits."""
    logits = torch.tensor([[4.0], [-2.0], [1.0], [1.0]])
    batch = torch.zeros(2, 2, 5), torch.zeros(2, 1)
    averaged, _ = _predict(torch.sigmoid, lambda sounds: logits, batch)
    assert torch.allclose(averaged, logits.sigmoid().view(2, 2).mean(1, keepdim=True))


# ---- paper, on tiny folders of the same layout


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
    for number, (table, place) in enumerate(soundarchives.EVENTS.values()):
        names = [f"id{number}{i}_30.000_40.000.wav" for i in range(8)]
        sounds_in(folder / place, [f"Y{name}" for name in names], 3, rate=8000)
        lines = [f"{name}\t30.0\t40.0\t{'Bus' if i % 2 else 'Car'}" for i, name in enumerate(names)]
        lines.append(f"{names[0]}\t30.0\t40.0\tTrain")
        lines.append("vanished_0.000_10.000.wav\t0.0\t10.0\tBus")
        soundfile.write(folder / place / "Yzero.wav", np.zeros(0), 16000)
        lines.append("zero.wav\t0.0\t10.0\tBus")
        (folder / table).write_text("\n".join(lines) + "\n")


TINY = {"keywords": tiny_commands, "music": tiny_music, "events": tiny_events}


def trial(task, epochs, folder=None, stop=bool):
    spec = Spec("adamp", "test", 1000, tuple(task.published["adam"].items()))
    run = TrialOptions(epochs=epochs, folder=folder, stop=stop)
    return Trial(task, OPTIMIZERS["adamp"], spec, run)


@pytest.fixture(params=["keywords", "music", "events"])
def tiny(request, tmp_path):
    """A subject and its task; but for keywords with a thin net, for the published one is slow."""
    TINY[request.param](tmp_path / "data")
    task = audio(preset="paper", data=tmp_path / "data", subject=request.param)
    task = task._replace(batch_size=3, loader_workers=0)
    if request.param == "keywords":
        return request.param, task
    tags = task.splits["train"].labels.shape[1]
    thin = lambda: HarmonicCNN(tags, HarmonicFilters(16000), width=4)
    return request.param, task._replace(model=thin)


def test_paper_steps_stops_and_resumes(tiny, tmp_path):
    """Two steps, and one step and another after a stop, end in the same weights."""
    _, task = tiny
    epochs = 2 / (len(task.splits["train"]) // task.batch_size)
    whole = trial(task, epochs)
    record = whole.train()
    assert record["steps"] == 2
    assert len(task.groups(whole.model)) == 1  # of one learning rate, as published
    stopped = trial(task, epochs, tmp_path / "checkpoints", stop=lambda: True)
    with pytest.raises(TrialStopped):
        stopped.train()
    assert stopped.step == 1
    resumed = trial(task, epochs, tmp_path / "checkpoints")
    assert resumed.train()["metrics"] == record["metrics"]
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_paper_splits(tiny):
    """Sizes are what the lists say, without what is empty, missing or has no tag."""
    name, task = tiny
    sounds, _ = task.splits["test"].__getitems__([0, 1])
    sizes = tuple(len(task.splits[part]) for part in ("train", "validation", "test"))
    assert (sizes, sounds.shape) == {
        "keywords": ((6, 3, 3), (2, 1, 16000)),
        "music": ((5, 2, 3), (2, 16, 80000)),
        "events": ((14, 2, 8), (2, 1, 160000)),
    }[name]
    pickle.loads(pickle.dumps(task.splits))  # processes that load batches may need it


def test_paper_layout_without_a_part_is_named(tmp_path):
    tiny_commands(tmp_path)
    (tmp_path / "speech_commands_v0.02" / "validation_list.txt").write_text("")
    with pytest.raises(DataError, match="has no recording of the part 'validation'"):
        audio(preset="paper", data=tmp_path)


def test_a_small_file_that_is_no_sound_is_named_before_training(tmp_path):
    tiny_commands(tmp_path)
    (tmp_path / "speech_commands_v0.02/yes/0_nohash_0.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"yes/0_nohash_0\.wav cannot be read as sound"):
        audio(preset="paper", data=tmp_path)


def test_a_broken_table_is_named(tmp_path):
    tiny_events(tmp_path)
    table = tmp_path / "dcase2017_task4" / "groundtruth_weak_label_testing_set.csv"
    table.write_text("a.wav\t1.0\n")
    with pytest.raises(DataError, match=r"testing_set\.csv, line 1 is \['a\.wav', '1\.0'\]"):
        audio(preset="paper", data=tmp_path, subject="events")


def test_an_empty_table_is_named(tmp_path):
    tiny_music(tmp_path)
    (tmp_path / "magnatagatune" / "annotations_final.csv").write_text("clip_id\tguitar\n1\t0\n")
    with pytest.raises(DataError, match=r"annotations_final\.csv has no column 'mp3_path'"):
        audio(preset="paper", data=tmp_path, subject="music")


@pytest.mark.parametrize(
    ("preset", "subject"), [("paper", "keywords"), ("mini", "events"), ("mini", "music")]
)
def test_speakers_are_an_option_of_minis_keywords(preset, subject, tmp_path):
    allowed = f"allowed with preset '{preset}' and subject '{subject}' is 'mixed'"
    with pytest.raises(ValueError, match=f"speakers is 'disjoint', {allowed}"):
        audio(preset=preset, data=tmp_path, subject=subject, speakers="disjoint")


def test_a_subject_that_is_none_is_refused():
    with pytest.raises(ValueError, match="subject must be keywords, events or music, got 'birds'"):
        audio(subject="birds")
