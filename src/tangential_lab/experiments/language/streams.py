"""A text cut into streams that are read in parallel, and streams cut into segments."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Streams:
    """A text cut into `streams` parts of equal length; a sample is one of them.

    Batches are tokens, and the next token at each position [n, length]. The rest of the text, less
    than one token per stream, is not used. A text with fewer tokens than streams is a ValueError.
    """

    tokens: np.ndarray
    streams: int

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.streams:
            raise ValueError(
                f"a text for {self.streams} streams must have at least {self.streams + 1} tokens, "
                f"got {len(self.tokens)}"
            )

    def __len__(self) -> int:
        return self.streams

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.cut(indices, 0, self.length)

    @property
    def length(self) -> int:
        """Tokens of a stream that have a next token."""
        return (len(self.tokens) - 1) // self.streams

    def cut(self, streams: list[int], start: int, length: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets of a part of these streams."""
        starts = [stream * self.length + start for stream in streams]
        cut = np.stack([self.tokens[i : i + length + 1] for i in starts])
        rows = torch.from_numpy(cut).long()
        return rows[:, :-1], rows[:, 1:]


@dataclass(frozen=True)
class Segments:
    """Streams cut into segments; sample i is segment i // streams of stream i % streams.

    A batch has the same segment of all streams, or of some of them: tokens and targets [n, length],
    and whether it is their first segment. The rest of a stream after its last whole segment is not
    used. Streams shorter than a segment, and batches of several segments, are a ValueError.
    """

    text: Streams
    length: int

    def __post_init__(self) -> None:
        if self.text.length < self.length:
            raise ValueError(
                f"a text for {self.text.streams} streams with segments of {self.length} must have "
                f"at least {self.text.streams * self.length + 1} tokens, got "
                f"{len(self.text.tokens)}"
            )

    def __len__(self) -> int:
        return self.text.length // self.length * self.text.streams

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, bool]:
        segment, *others = sorted({index // self.text.streams for index in indices})
        if others:  # they cannot share a memory
            raise ValueError(f"indices must be of one segment, got segments {[segment, *others]}")
        streams = [index % self.text.streams for index in indices]
        return *self.text.cut(streams, segment * self.length, self.length), segment == 0
