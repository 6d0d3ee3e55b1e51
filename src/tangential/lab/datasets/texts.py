"""Texts as numbers, encoded once, and how they are cut into streams and segments."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from tangential.lab.datasets.data import Arrays, DataError, described, found, needed, prepared
from tangential.lab.task import Data

PARTS = {"train": "train", "tune": "valid", "report": "test"}  # as WikiText's files are called
FILES = [f"wiki.{part}.tokens" for part in PARTS.values()]
SHAKESPEARE = (
    "tinyshakespeare",
    ["input.txt"],
    "It is data/tinyshakespeare/input.txt of github.com/karpathy/char-rnn.",
)
END, UNKNOWN = "<eos>", "<unk>"
BREAK = "\0"  # between words of a stored vocabulary; no text has it

Lines = Callable[[], AbstractContextManager[Iterable[str]]]


class Text(NamedTuple):
    """Three parts of a text as numbers."""

    name: str
    unit: str  # "character" or "word"
    data: Data
    parts: Mapping[str, np.ndarray]  # "train", "tune", "report": numbers of tokens [n]
    vocabulary: list[str]  # by falling frequency: token of each number


# ---- characters


def tinyshakespeare(data: Path | None) -> Text:
    """Lines of Shakespeare's plays, 1,115,394 characters."""
    (path,) = needed(data, *SHAKESPEARE)
    source = described("tinyshakespeare (Karpathy, char-rnn), by characters", [path])
    return _by_characters("tinyshakespeare", source, partial(path.read_text, "utf-8"))


def at_hand(data: Path | None) -> Text:
    """Shakespeare's plays where the data have them, else Python's help."""
    return tinyshakespeare(data) if found(data, *SHAKESPEARE) else pydoc()


def pydoc() -> Text:
    """The topics of Python's own help, which every Python has."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    version = ".".join(map(str, sys.version_info[:3]))
    about = f"embedded in Python {version} (pydoc_data.topics), by characters"
    source = Data(about, sha256(text.encode()).hexdigest()[:16])
    return _by_characters("pydoc", source, lambda: text)


def _by_characters(name: str, source: Data, read: Callable[[], str]) -> Text:
    arrays = prepared("characters", source, lambda: _encoded_characters(read()))
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
        lines = [_opened(path) for path in paths]
    source = described("WikiText-2 (Merity et al. 2016), by words", paths)
    return _by_words("wikitext2", source, lines)


def wikitext103(data: Path | None) -> Text:
    """WikiText-103: 103,227,021 words of Wikipedia in the training part."""
    whence = "It is WikiText-103 (Merity et al. 2016), words and not raw text."
    paths = needed(data, "wikitext-103", FILES, whence)
    source = described("WikiText-103 (Merity et al. 2016), by words", paths)
    return _by_words("wikitext-103", source, [_opened(path) for path in paths])


def _opened(path: Path) -> Lines:
    return partial(path.open, encoding="utf-8", newline="\n")


def _zipped(path: Path, whence: str) -> list[Lines]:
    try:
        names = {Path(name).name: name for name in ZipFile(path).namelist()}
        return [partial(_unzipped, path, names[file]) for file in FILES]
    except (BadZipFile, KeyError) as error:
        raise DataError(f"{path} is no zip of {', '.join(FILES)}: {error}. {whence}") from error


def _unzipped(path: Path, name: str) -> TextIOWrapper:
    return TextIOWrapper(ZipFile(path).open(name), encoding="utf-8", newline="\n")


def _by_words(name: str, source: Data, lines: Sequence[Lines]) -> Text:
    return _text(name, "word", source, prepared("words", source, lambda: _encoded_words(lines)))


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


def _text(name: str, unit: str, source: Data, arrays: Arrays) -> Text:
    vocabulary = arrays["vocabulary"].tobytes().decode().split(BREAK)
    return Text(name, unit, source, {part: arrays[part] for part in PARTS}, vocabulary)


@dataclass(frozen=True)
class Streams:
    """A text cut into as many streams of one length; a sample is one of them.

    What is left over, less than a token a stream, is not looked at.

    Raises:
        ValueError: there are fewer tokens than streams.
    """

    tokens: np.ndarray
    streams: int

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.streams:
            raise ValueError(
                f"a text of {len(self.tokens)} tokens cannot be cut into {self.streams} streams: "
                f"allowed are {self.streams + 1} tokens or more"
            )

    def __len__(self) -> int:
        """Number of streams."""
        return self.streams

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Tokens, and the next token at each position [n, length]."""
        return self.cut(indices, 0, self.length)

    @property
    def length(self) -> int:
        """Of a stream."""
        return (len(self.tokens) - 1) // self.streams

    def cut(self, streams: list[int], start: int, length: int) -> tuple[Tensor, Tensor]:
        """A part of these streams, tokens and targets."""
        starts = [stream * self.length + start for stream in streams]
        cut = np.stack([self.tokens[i : i + length + 1] for i in starts])
        rows = torch.from_numpy(cut).long()
        return rows[:, :-1], rows[:, 1:]


@dataclass(frozen=True)
class Segments:
    """Streams cut into segments; a sample is a segment of a stream, the streams in turn.

    A batch is of one segment, of all streams or some of them. What is left of a stream after its
    last whole segment is not looked at.
    """

    text: Streams
    length: int

    def __len__(self) -> int:
        """Number of segments of all streams."""
        return self.text.length // self.length * self.text.streams

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, bool]:
        """Tokens and targets [n, length], and whether their streams begin here.

        Raises:
            ValueError: the samples are of several segments, which have no memory in common.
        """
        segments = {index // self.text.streams for index in indices}
        if len(segments) != 1:
            raise ValueError(f"indices are of segments {sorted(segments)}, allowed is one segment")
        (segment,) = segments
        streams = [index % self.text.streams for index in indices]
        return *self.text.cut(streams, segment * self.length, self.length), segment == 0
