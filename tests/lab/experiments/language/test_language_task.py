"""The language task."""

import math

import pytest
import torch
from realdata import DATA, needs
from rehearsal import rehearse, scored, trained
from tiny_texts import LINES, wikitext, written

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.language.task import SETTINGS, language
from tangential_lab.experiments.language.transformer_xl import (
    BASE,
    Sizes,
)
from tangential_lab.training import OPTIMIZERS, Spec
from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped


def test_the_default_text_is_pythons_help(home):
    task = language()
    assert "pydoc_data.topics" in task.data.about
    assert task.metric.name == "loss"
    written(home / "tinyshakespeare/input.txt", "all the world's a stage " * 100)
    assert "tinyshakespeare" in language(data=home).data.about
    assert "pydoc_data.topics" in language(data=home, text="pydoc").data.about


def test_the_paper_preset_has_one_text(home):
    with pytest.raises(ValueError, match="text must be 'auto' with preset 'paper', got 'pydoc'"):
        language(preset="paper", data=home, text="pydoc")


@pytest.mark.slow
def test_a_mini_is_rehearsed_and_learns(home, monkeypatch):
    small = SETTINGS["character"]._replace(sizes=Sizes(2, 32, 2, 16, 64), streams=8, length=16)
    monkeypatch.setitem(SETTINGS, "character", small)
    task = language(text="pydoc", weight_norm=True)
    before = rehearse(task, home)["test"]
    assert before["loss"] == pytest.approx(task.metric.chance_score, rel=0.1)
    assert before["perplexity"] == pytest.approx(math.exp(before["loss"]))
    after = scored(task, trained(task, 60)[0])
    assert after["loss"] < 0.75 * task.metric.chance_score


@pytest.mark.parametrize(
    ("part", "words", "expected"),
    [
        ("train", 9000, "60 streams with segments of 151 must have at least 9061 tokens, got 9001"),
        ("valid", 3, "10 streams must have at least 11 tokens, got 4"),
        ("test", 3, "10 streams must have at least 11 tokens"),
    ],
)
def test_a_split_that_is_too_short_is_named(home, monkeypatch, part, words, expected):
    lines = dict.fromkeys(LINES, "the cat <unk>\n" * 3000) | {part: "<unk> " * words + "\n"}
    wikitext(home / "wikitext-103", lines)
    monkeypatch.setitem(SETTINGS, "paper", SETTINGS["paper"]._replace(length=151))
    name = {"train": "train", "valid": "validation", "test": "test"}[part]
    with pytest.raises(DataError, match=rf"WikiText-103 .*, split '{name}': a text for {expected}"):
        language(preset="paper", data=home)


def tiny_paper(home, monkeypatch, sizes):
    """With shorter segments and fewer streams."""
    train = " ".join(f"word{n % 700 * (n % 3)}" for n in range(2000))
    wikitext(home / "wikitext-103", {**LINES, "train": train + " <unk> \n"})
    written(home / "wikitext-103/wiki.valid.tokens", "word1 word2 word3 \n" * 10)
    written(home / "wikitext-103/wiki.test.tokens", "word3 word2 other \n" * 10)
    brief = SETTINGS["paper"]._replace(sizes=sizes, streams=2, length=10)
    monkeypatch.setitem(SETTINGS, "paper", brief)
    return language(preset="paper", data=home)


@pytest.mark.slow
def test_the_paper_is_rehearsed_on_a_tiny_folder(home, monkeypatch):
    """The net at its published size."""
    assert language_of_the_paper(home).batch_size == 60
    task = tiny_paper(home, monkeypatch, BASE._replace(cutoffs=(100, 200, 40_000)))
    scores = rehearse(task, home)
    assert 1 < scores["test"]["perplexity"] < 10 * task.metric.chance_score
    assert task.metric.higher_is_better is False


@pytest.mark.slow
def test_the_papers_net_stops_and_resumes_as_if_uninterrupted(home, monkeypatch):
    """In the middle of an epoch: the memory of earlier segments is restored."""
    sizes = Sizes(2, 16, 2, 8, 32, cutoffs=(100, 200), dropout=0.1)
    task = tiny_paper(home, monkeypatch, sizes)
    epochs = 8 * task.batch_size / len(task.splits["train"])
    assert epochs < 1

    def trial(task, folder=None, stop=bool):
        spec = Spec("adamp", "test", 1000, (("lr", 0.1), ("weight_decay", 1e-2)))
        run = TrialOptions(epochs=epochs, folder=folder, stop=stop)
        return Trial(task, OPTIMIZERS["adamp"], spec, run)

    def told(trained):
        record = trained.train()
        assert record["steps"] == 8
        return record["metrics"], record["curves"]["loss"]

    whole, resumed = trial(task), trial(task, home / "checkpoints")
    expected, asked = told(whole), iter([False, False, True])
    with pytest.raises(TrialStopped):
        trial(task, home / "checkpoints", lambda: next(asked)).train()
    assert told(resumed) == expected
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert told(trial(task._replace(max_grad_norm=None))) != expected


def language_of_the_paper(home):
    written(home / "full/wikitext-103/wiki.train.tokens", "the cat <unk> \n" * 3000)
    wikitext(home / "full/wikitext-103", dict.fromkeys(("valid", "test"), "the cat \n" * 10))
    return language(preset="paper", data=home / "full")


def test_the_paper_is_trained_for_200_000_steps(home):
    task = language_of_the_paper(home)
    segments = (12_000 - 1) // 60 // 150
    assert task.epochs == 200_000 / segments
    assert len(task.splits["train"]) == 60 * segments
    assert task.evaluation_batch_size == 10
    assert task.max_grad_norm == 0.25
    assert task.published["adam"]["lr"] == 2.5e-4
    assert [task.schedule(done) for done in (0, 0.5, 1)] == [1, 0.5, 0]


@pytest.mark.parametrize("text", ["pydoc", pytest.param("wikitext2", marks=needs("wikitext-2"))])
def test_the_small_nets_begin_slowly(text):
    task = language(data=DATA, text=text)
    shares = [task.schedule(step / 100) for step in range(101)]
    assert shares[0] == 0.01
    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] == 0
