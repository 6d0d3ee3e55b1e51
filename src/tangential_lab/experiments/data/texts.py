"""Texts as numbers, encoded once. A missing or broken file raises a DataError."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tangential_lab.experiments.data import sources
from tangential_lab.training import DataSource

Unit = Literal["character", "word"]
SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # and the names in WikiText
FILES = tuple(f"wiki.{name}.tokens" for name in SPLITS.values())
WIKITEXT = "(Merity et al. 2016), the files of words, not the raw text."
WIKITEXT2 = sources.DataFolder(
    "wikitext-2",
    FILES,
    f"Get WikiText-2 {WIKITEXT}",
    title="WikiText-2: 2 million words of Wikipedia",
    publisher="S. Merity and others",
    licence="CC BY-SA",
    megabytes=13,
    used_by="language, pretraining text=wikitext2",
    downloads=(
        sources.Download("https://wikitext.smerity.com/wikitext-2-v1.zip", root="wikitext-2"),
    ),
    sha256="4898df5c4bca6d72d0da630d8539ed1fe54d74345c71bd609af50d17f8a1dc0a",
)
WIKITEXT103 = sources.DataFolder(
    "wikitext-103",
    FILES,
    f"Get WikiText-103 {WIKITEXT}",
    title="WikiText-103: 103 million words of Wikipedia",
    publisher="S. Merity and others",
    licence="CC BY-SA",
    megabytes=545,
    used_by="language preset=paper",
    downloads=(
        sources.Download(
            "https://wikitext.smerity.com/wikitext-103-v1.zip",
            root="wikitext-103",
            sha256="242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
        ),
    ),
)
SHAKESPEARE = sources.DataFolder(
    "tinyshakespeare",
    ("input.txt",),
    "Get data/tinyshakespeare/input.txt of https://github.com/karpathy/char-rnn.",
    title="tinyshakespeare: 40,000 lines of plays",
    publisher="A. Karpathy",
    licence="public domain",
    megabytes=1,
    used_by="language, pretraining",
    downloads=(
        sources.Download(
            "https://raw.githubusercontent.com/karpathy/char-rnn/"
            "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
            "input.txt",
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
    sha256="681e82c1ad2f513b1894132f780317918d6fa2acd49cd5831883796babca94de",
)
VERSION = 1  # of the encodings; a change makes the cache encode again
END, UNKNOWN = "<eos>", "<unk>"
BREAK = "\0"  # between the tokens of a stored vocabulary; no text contains it


class Text(NamedTuple):
    """The three splits of a text as numbers."""

    name: str
    unit: Unit
    data: DataSource
    splits: Mapping[str, np.ndarray]  # "train", "validation", "test": numbers of tokens [n]
    vocabulary: list[str]  # the token of each number, by falling frequency


def tinyshakespeare(data: Path | None) -> Text:
    """Lines of Shakespeare's plays, 1,115,394 characters."""
    (path,) = SHAKESPEARE.require(data)
    source = sources.described("tinyshakespeare (Karpathy, char-rnn), by characters", [path])

    def encode() -> sources.Arrays:
        with SHAKESPEARE.reading(path, "text in UTF-8"):
            return _encoded_characters(path.read_text("utf-8"))

    return _text("tinyshakespeare", "character", source, encode)


def pydoc(_data: Path | None) -> Text:
    """The topics of Python's own help, which every Python has."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    version = ".".join(map(str, sys.version_info[:3]))
    about = f"embedded in Python {version} (pydoc_data.topics), by characters"
    source = DataSource(about, sha256(text.encode()).hexdigest()[:16])
    return _text("pydoc", "character", source, lambda: _encoded_characters(text))


def available(data: Path | None) -> Text:
    """Shakespeare's plays if the data contain them, else Python's help."""
    return tinyshakespeare(data) if SHAKESPEARE.find(data) else pydoc(data)


def wikitext2(data: Path | None) -> Text:
    """WikiText-2: 2,088,628 words of Wikipedia in the training split."""
    return _wikitext("wikitext2", "WikiText-2", WIKITEXT2, data)


def wikitext103(data: Path | None) -> Text:
    """WikiText-103: 103,227,021 words of Wikipedia in the training split."""
    return _wikitext("wikitext-103", "WikiText-103", WIKITEXT103, data)


def _wikitext(name: str, about: str, folder: sources.DataFolder, data: Path | None) -> Text:
    paths = folder.require(data)
    source = sources.described(f"{about} (Merity et al. 2016), by words", paths)
    return _text(name, "word", source, lambda: _encoded_words(folder, paths))


def _text(name: str, unit: Unit, source: DataSource, encode: Callable[[], sources.Arrays]) -> Text:
    arrays = sources.prepared(f"{unit}s-{VERSION}", source, encode)
    vocabulary = arrays["vocabulary"].tobytes().decode().split(BREAK)
    return Text(name, unit, source, {split: arrays[split] for split in SPLITS}, vocabulary)


def _encoded_characters(text: str) -> sources.Arrays:
    """Nine tenths are for training; the last tenth is halved into validation and test."""
    arrays, numbers = _numbered(text)
    tokens = np.fromiter(map(numbers.__getitem__, text), np.int32, len(text))
    splits = np.split(tokens, [len(text) * 90 // 100, len(text) * 95 // 100])
    return arrays | dict(zip(SPLITS, splits, strict=True))


def _encoded_words(folder: sources.DataFolder, paths: list[Path]) -> sources.Arrays:
    """Every line ends with a word of its own; the vocabulary is that of the training split."""
    with folder.reading(paths[0], "text in UTF-8"):
        arrays, numbers = _numbered(_words(paths[0]))
    for split, path in zip(SPLITS, paths, strict=True):
        with folder.reading(path, "text in UTF-8"):
            arrays[split] = np.fromiter((_number(word, numbers) for word in _words(path)), np.int32)
    return arrays


def _numbered(tokens: Iterable[str]) -> tuple[sources.Arrays, dict[str, int]]:
    """The vocabulary by falling frequency, as it is stored, and the number of each token."""
    vocabulary = [token for token, _ in Counter(tokens).most_common()]
    stored = np.frombuffer(BREAK.join(vocabulary).encode(), np.uint8)
    return {"vocabulary": stored}, {token: number for number, token in enumerate(vocabulary)}


def _words(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield from line.split()
            yield END


def _number(word: str, numbers: dict[str, int]) -> int:
    number = numbers.get(word, numbers.get(UNKNOWN))
    if number is None:
        raise sources.DataError(
            f"the training split must contain the word {word!r} of another split, or {UNKNOWN}"
        )
    return number


MINI = {  # the texts of preset "mini"
    "auto": available,
    "tinyshakespeare": tinyshakespeare,
    "wikitext2": wikitext2,
    "pydoc": pydoc,
}
