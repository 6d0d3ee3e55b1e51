"""Texts in the layouts that their authors publish."""

from collections import Counter

import numpy as np
import pytest
from realdata import DATA, needs
from tiny_texts import LINES, decoded, wikitext, written

from tangential_lab.experiments.data import texts
from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.language.task import language


def test_characters_are_numbered_by_falling_frequency_and_split(home):
    verse = "to be, or not to be: that is the question.\n" * 20
    written(home / "tinyshakespeare/input.txt", verse)
    text = texts.tinyshakespeare(home)
    size = len(verse)
    assert [len(text.splits[split]) for split in texts.SPLITS] == [
        size * 9 // 10,
        size // 20,
        size // 20,
    ]
    assert "".join(decoded(text, split, "") for split in texts.SPLITS) == verse
    counts = Counter(verse)
    falling = [counts[character] for character in text.vocabulary]
    assert falling == sorted(falling, reverse=True)
    assert len(falling) == len(counts)


def test_words_have_an_end_of_line_and_unknown_ones(home):
    wikitext(home / "wikitext-103")
    text = texts.wikitext103(home)
    train = "= Title = <eos> <eos> the cat saw the <unk> <eos>"
    assert decoded(text, "train", " ") == train
    assert decoded(text, "validation", " ") == "the <unk> <eos>"
    assert decoded(text, "test", " ") == "cat <eos>"
    assert text.vocabulary[0] == "<eos>"
    assert set(text.vocabulary) == set(train.split())


def test_texts_are_encoded_once_and_mapped(home, monkeypatch):
    wikitext(home / "wikitext-103")
    before = texts.wikitext103(home)
    monkeypatch.setattr(texts, "_encoded_words", None)
    after = texts.wikitext103(home)
    assert isinstance(after.splits["train"], np.memmap)
    assert np.array_equal(after.splits["train"], before.splits["train"])
    assert after.vocabulary == before.vocabulary
    monkeypatch.setattr(texts, "VERSION", texts.VERSION + 1)
    with pytest.raises(TypeError):  # it is encoded anew
        texts.wikitext103(home)


def test_a_word_missing_in_training_is_refused_without_an_unknown_word(home):
    wikitext(home / "wikitext-103", {**LINES, "train": "the cat\n"})
    with pytest.raises(DataError, match=r"must contain the word 'dog' .*, or <unk>"):
        texts.wikitext103(home)


@pytest.mark.parametrize(
    ("folder", "file", "read"),
    [
        ("tinyshakespeare", "input.txt", texts.tinyshakespeare),
        ("wikitext-2", "wiki.valid.tokens", texts.wikitext2),
        ("wikitext-103", "wiki.train.tokens", texts.wikitext103),
    ],
)
def test_a_text_in_another_encoding_is_named(home, folder, file, read):
    wikitext(home / folder)
    (home / folder / file).write_bytes("caf\xe9 <unk>\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=rf"cannot read .*{folder}/{file} as text in UTF-8: .*'utf-8'.* Get "
    ):
        read(home)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "paper"}, r"wikitext-103 contains wiki.train.tokens,.*Merity et al. 2016"),
        ({"text": "wikitext2"}, r"wikitext-2 contains wiki.train.tokens,.*Merity et al. 2016"),
        ({"text": "tinyshakespeare"}, r"tinyshakespeare contains input.txt.*karpathy/char-rnn"),
    ],
)
def test_missing_texts_are_named_with_their_source(home, options, expected):
    with pytest.raises(DataError, match=expected):
        language(data=home, **options)


@needs("wikitext-2")
def test_wikitext2_has_its_published_counts():
    text = texts.wikitext2(DATA)
    assert [len(text.splits[split]) for split in texts.SPLITS] == [2_088_628, 217_646, 245_569]
    assert len(text.vocabulary) == 33_278


@needs("tinyshakespeare")
def test_tinyshakespeare_has_its_published_counts():
    text = texts.tinyshakespeare(DATA)
    assert sum(len(split) for split in text.splits.values()) == 1_115_394
    assert len(text.vocabulary) == 65


def test_wikitext2_is_read_from_its_files(home):
    wikitext(home / "wikitext-2")
    wikitext(home / "wikitext-103")
    two, large = texts.wikitext2(home), texts.wikitext103(home)
    assert (two.name, two.unit) == ("wikitext2", "word")
    assert two.vocabulary == large.vocabulary
    assert all(np.array_equal(two.splits[split], large.splits[split]) for split in texts.SPLITS)
