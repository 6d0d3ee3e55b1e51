"""A text cut into streams that are read side by side, and these into segments."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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

    Raises:
        ValueError: the streams are shorter than a segment.
    """

    text: Streams
    length: int

    def __post_init__(self) -> None:
        if self.text.length < self.length:
            raise ValueError(
                f"a text of {len(self.text.tokens)} tokens, cut into {self.text.streams} streams "
                f"of {self.text.length}, has no segment of {self.length}: allowed are "
                f"{self.text.streams * self.length + 1} tokens or more"
            )

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
