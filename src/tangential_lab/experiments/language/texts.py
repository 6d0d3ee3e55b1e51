"""Texts as numbers, encoded once."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np

from tangential_lab.experiments.data.sources import (
    Arrays,
    DataError,
    described,
    found,
    needed,
    prepared,
    read_as,
)
from tangential_lab.training import DataSource

PARTS = {"train": "train", "validation": "valid", "test": "test"}  # as WikiText's files are called
FILES = [f"wiki.{part}.tokens" for part in PARTS.values()]
SHAKESPEARE = (
    "tinyshakespeare",
    ["input.txt"],
    "It is data/tinyshakespeare/input.txt of github.com/karpathy/char-rnn.",
)
VERSION = 1  # of the encodings here: what is in the cache is of one of them
END, UNKNOWN = "<eos>", "<unk>"
BREAK = "\0"  # between words of a stored vocabulary; no text has it

Lines = Callable[[], AbstractContextManager[Iterable[str]]]


class Text(NamedTuple):
    """Three parts of a text as numbers."""

    name: str
    unit: str  # "character" or "word"
    data: DataSource
    parts: Mapping[str, np.ndarray]  # "train", "validation", "test": numbers of tokens [n]
    vocabulary: list[str]  # by falling frequency: token of each number


# ---- characters


def tinyshakespeare(data: Path | None) -> Text:
    """Lines of Shakespeare's plays, 1,115,394 characters."""
    (path,) = needed(data, *SHAKESPEARE)
    source = described("tinyshakespeare (Karpathy, char-rnn), by characters", [path])
    return _by_characters("tinyshakespeare", source, partial(_whole, path, SHAKESPEARE[2]))


def _whole(path: Path, whence: str) -> str:
    with read_as("text in UTF-8", path, whence):
        return path.read_text("utf-8")


def at_hand(data: Path | None) -> Text:
    """Shakespeare's plays where the data have them, else Python's help."""
    return tinyshakespeare(data) if found(data, *SHAKESPEARE) else pydoc()


def pydoc() -> Text:
    """The topics of Python's own help, which every Python has."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    version = ".".join(map(str, sys.version_info[:3]))
    about = f"embedded in Python {version} (pydoc_data.topics), by characters"
    source = DataSource(about, sha256(text.encode()).hexdigest()[:16])
    return _by_characters("pydoc", source, lambda: text)


def _by_characters(name: str, source: DataSource, read: Callable[[], str]) -> Text:
    arrays = prepared(f"characters-{VERSION}", source, lambda: _encoded_characters(read()))
    return _text(name, "character", source, arrays)


def _encoded_characters(text: str) -> Arrays:
    """Nine tenths for training; the last tenth is parted in the middle."""
    vocabulary = [character for character, _ in Counter(text).most_common()]
    numbers = {character: number for number, character in enumerate(vocabulary)}
    tokens = np.fromiter(map(numbers.__getitem__, text), np.int32, len(text))
    parts = np.split(tokens, [len(text) * 90 // 100, len(text) * 95 // 100])
    return {**dict(zip(PARTS, parts, strict=True)), "vocabulary": _stored(vocabulary)}


# ---- words


def wikitext2(data: Path | None) -> Text:
    """WikiText-2: 2,088,628 words of Wikipedia in the training part."""
    whence = "It is WikiText-2 (Merity et al. 2016), words and not raw text."
    if paths := found(data, "wikitext2", ["wikitext2.zip"], whence):
        lines = _zipped(paths[0], whence)
    else:
        paths = needed(data, "wikitext-2", FILES, whence)
        lines = [_opened(path, whence) for path in paths]
    source = described("WikiText-2 (Merity et al. 2016), by words", paths)
    return _by_words("wikitext2", source, lines)


def wikitext103(data: Path | None) -> Text:
    """WikiText-103: 103,227,021 words of Wikipedia in the training part."""
    whence = "It is WikiText-103 (Merity et al. 2016), words and not raw text."
    paths = needed(data, "wikitext-103", FILES, whence)
    source = described("WikiText-103 (Merity et al. 2016), by words", paths)
    return _by_words("wikitext-103", source, [_opened(path, whence) for path in paths])


def _opened(path: Path, whence: str) -> Lines:
    read = partial(path.open, encoding="utf-8", newline="\n")
    return partial(_explained, read, path, whence)


@contextmanager
def _explained(read: Lines, path: Path, whence: str) -> Iterator[Iterable[str]]:
    with read_as("text in UTF-8", path, whence), read() as lines:
        yield lines


def _zipped(path: Path, whence: str) -> list[Lines]:
    try:
        names = {Path(name).name: name for name in ZipFile(path).namelist()}
        reads = [partial(_unzipped, path, names[file]) for file in FILES]
    except (BadZipFile, KeyError) as error:
        raise DataError(f"{path} is no zip of {', '.join(FILES)}: {error}. {whence}") from error
    places = [path / file for file in FILES]
    return [partial(_explained, *of, whence) for of in zip(reads, places, strict=True)]


def _unzipped(path: Path, name: str) -> TextIOWrapper:
    return TextIOWrapper(ZipFile(path).open(name), encoding="utf-8", newline="\n")


def _by_words(name: str, source: DataSource, lines: Sequence[Lines]) -> Text:
    arrays = prepared(f"words-{VERSION}", source, lambda: _encoded_words(lines))
    return _text(name, "word", source, arrays)


def _encoded_words(lines: Sequence[Lines]) -> Arrays:
    """Every line ends with a word of its own; the vocabulary is that of the training part."""
    with lines[0]() as train:
        vocabulary = [word for word, _ in Counter(_words(train)).most_common()]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    arrays = {"vocabulary": _stored(vocabulary)}
    for part, opened in zip(PARTS, lines, strict=True):
        with opened() as text:
            arrays[part] = np.fromiter((_number(word, numbers) for word in _words(text)), np.int32)
    return arrays


def _words(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from line.split()
        yield END


def _number(word: str, numbers: dict[str, int]) -> int:
    number = numbers.get(word, numbers.get(UNKNOWN))
    if number is None:
        raise DataError(
            f"{word!r} is not among the words of the training part, which must then have {UNKNOWN}"
        )
    return number


# ---- either


def _stored(vocabulary: list[str]) -> np.ndarray:
    return np.frombuffer(BREAK.join(vocabulary).encode(), np.uint8)


def _text(name: str, unit: str, source: DataSource, arrays: Arrays) -> Text:
    vocabulary = arrays["vocabulary"].tobytes().decode().split(BREAK)
    return Text(name, unit, source, {part: arrays[part] for part in PARTS}, vocabulary)
