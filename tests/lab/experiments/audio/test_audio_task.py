"""The audio task: its mini presets on real data, its scores and its refusals."""

import math

import numpy as np
import pytest
import torch
from realdata import DATA, needs
from rehearsal import trial
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from tangential_lab.experiments.audio.task import _predict, _tagged, _words, audio
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.training import ProcessShare, training_batches

# ---- mini, on real data


MINI = [
    ("free-spoken-digit-dataset", {}, (2400, 300, 300), (8000,)),
    ("free-spoken-digit-dataset", {"speakers": "disjoint"}, (2000, 500, 500), (8000,)),
    ("ESC-50-master", {"subject": "events"}, (8640, 400, 400), (80000,)),
    ("nsynth-test", {"subject": "music"}, None, (40000,)),
]


@pytest.mark.parametrize(
    ("options", "sizes", "shape"),
    [pytest.param(*case, marks=needs(name)) for name, *case in MINI],
)
@pytest.mark.slow
def test_mini_steps_and_scores(options, sizes, shape):
    task = audio(data=DATA, **options)
    if sizes:
        assert tuple(len(task.splits[name]) for name in ("train", "validation", "test")) == sizes
    sounds, labels = next(training_batches(task, seed=1, first_step=0, share=ProcessShare()))
    assert sounds.shape == (task.batch_size, 1, *shape)
    if labels.dim() > 1:  # one to four tags per pair
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


@needs("free-spoken-digit-dataset")
def test_the_width_of_minis_filters_learns_slowly():
    """At SGD's learning rate Q would grow until no filter passes anything."""
    task = audio(data=DATA)
    model = task.model()
    others, filters = task.groups(model)
    assert [id(p) for p in filters["params"]] == [id(model.filters.q)]
    assert filters["lr_scale"] == 0.1
    assert len(others["params"]) == len(list(model.parameters())) - 1


@needs("free-spoken-digit-dataset")
def test_speakers_of_the_splits_are_disjoint():
    names = sorted(path.stem for path in (DATA / "free-spoken-digit-dataset").glob("*/*.wav"))
    task = audio(data=DATA, speakers="disjoint")
    speakers = {
        name: {names[i].split("_")[1] for i in split.sound.args[2]}
        for name, split in task.splits.items()
    }
    assert [len(speakers[name]) for name in ("train", "validation", "test")] == [4, 1, 1]
    assert len(set.union(*speakers.values())) == 6
    assert "disjoint speakers" in task.about


@needs("ESC-50-master")
def test_pairs_are_of_one_fold_and_of_two_classes():
    key = lambda name: (int(name.removesuffix(".wav").split("-")[3]), name)
    names = sorted((path.name for path in (DATA / "ESC-50-master/audio").iterdir()), key=key)
    task = audio(data=DATA, subject="events")
    folds = {
        name: {tuple(int(names[i][0]) for i in pair) for pair in split.sound.args[1]}
        for name, split in task.splits.items()
    }
    assert folds == {"train": {(1, 1), (2, 2), (3, 3)}, "validation": {(4, 4)}, "test": {(5, 5)}}
    assert all((split.labels.sum(1) == 2).all() for split in task.splits.values())


@needs("ESC-50-master")
def test_evaluation_is_always_the_same():
    first, second = (audio(data=DATA, subject="events").splits["test"] for _ in range(2))
    assert torch.equal(first.__getitems__([3])[0], second.__getitems__([3])[0])


@needs("free-spoken-digit-dataset")
@pytest.mark.slow
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
        with pytest.raises(DataError, match=r"pass --data DIR .*[. ][Gg]et .*(from|by) "):
            audio(preset=preset, data=where, subject=subject)


# ---- scores


def test_tag_scores_are_scikit_learns():
    generator = np.random.default_rng(0)
    truth = (generator.random((60, 5)) < 0.3).astype(np.float32)
    truth[:, 4] = 0  # a tag that no recording has: it has no curves
    probability = generator.random((60, 5)).astype(np.float32)
    batches = zip(*(torch.from_numpy(x).split(25) for x in (probability, truth)), strict=True)
    scores = _tagged(list(batches))
    defined = truth[:, :4], probability[:, :4]
    assert scores["ROC-AUC"] == pytest.approx(roc_auc_score(*defined, average="macro"), abs=1e-5)
    assert scores["PR-AUC"] == pytest.approx(
        average_precision_score(*defined, average="macro"), abs=1e-5
    )
    expected = f1_score(truth, probability > 0.1, average="samples", zero_division=0)
    assert scores["F1"] == pytest.approx(expected)
    assert scores["F1"] != pytest.approx(f1_score(truth, probability > 0.1, average="micro"))


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


@pytest.mark.parametrize(
    ("preset", "subject"), [("paper", "keywords"), ("mini", "events"), ("mini", "music")]
)
def test_speakers_are_an_option_of_minis_keywords(preset, subject, tmp_path):
    expected = f"'mixed' with preset '{preset}' and subject '{subject}', got 'disjoint'"
    with pytest.raises(ValueError, match=f"speakers must be {expected}"):
        audio(preset=preset, data=tmp_path, subject=subject, speakers="disjoint")


def test_an_unknown_subject_is_refused():
    with pytest.raises(ValueError, match="subject must be keywords, events or music, got 'birds'"):
        audio(subject="birds")
