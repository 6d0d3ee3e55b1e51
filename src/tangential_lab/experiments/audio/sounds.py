"""Recordings: read from files, resampled to one rate, cut to one length."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tangential_lab.experiments.data.sources import DataError, DataFolder
from tangential_lab.training import DataSource

Sound = np.ndarray  # samples [n], float32, full scale at 1


class SoundSplit(NamedTuple):
    """Recordings by number, and their labels: [n], or [n, tags] of 0 and 1."""

    sound: Callable[[int], Sound]
    labels: Tensor


class SoundSet(NamedTuple):
    """A data set of recordings at one rate, in disjoint splits: "train", "validation", "test"."""

    data: DataSource
    rate: int
    tags: list[str]
    splits: dict[str, SoundSplit]

    def complete(self, source: DataFolder, folder: Path) -> "SoundSet":
        """The set itself; an empty split is an error."""
        for name, split in self.splits.items():
            if not len(split.labels):
                raise source.error(f"{folder} has no recording for {name} ({self.data.about})")
        return self


def read(path: Path, rate: int) -> Sound:
    """The samples of a file in one of libsndfile's formats (WAV, FLAC, Ogg, MP3, ...).

    Channels are averaged; another rate is resampled by a polyphase filter to `rate` samples per
    second. If a file is truncated, the remaining samples are returned, if its format allows that.

    Raises:
        DataError: the file is missing, empty or not sound, or has samples that are not finite.
    """
    import soundfile

    try:
        samples, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"cannot read {path} as sound: {error}") from error
    if not len(samples):
        raise DataError(f"{path} must contain at least one sample, but it is empty")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} has samples that are not finite")
    sound = samples.mean(1)
    if file_rate == rate:
        return sound
    from scipy.signal import resample_poly

    return resample_poly(sound, rate, file_rate).astype(np.float32)


def count_samples(path: Path) -> int:
    """Samples per channel, as the file's header says; raises the same error as `read`."""
    import soundfile

    try:
        return soundfile.info(path).frames
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"cannot read {path} as sound: {error}") from error


def cut(sound: Sound, length: int, place: float) -> Sound:
    """`length` samples, from the start (place 0) to the end (1); a shorter sound is padded."""
    start = round(place * abs(len(sound) - length))
    if len(sound) >= length:
        return sound[start : start + length]
    result = np.zeros(length, np.float32)
    result[start : start + len(sound)] = sound
    return result


def level(sound: Sound) -> Sound:
    """The sound scaled to a root mean square of 0.1; silence stays silent."""
    power = float(np.square(sound, dtype=np.float64).mean())
    return sound if power == 0 else (sound * (0.1 / power**0.5)).astype(np.float32)


@dataclass(frozen=True)
class Recordings:
    """A split of recordings; batches are sounds [n, chunks, length] and labels [n, ...].

    Args:
        sound: Returns a recording by its number; may draw from torch's global generator.
        labels: Labels of all recordings.
        length: Samples of a chunk.
        chunks: Chunks per recording, at equal distances; 0 is one chunk at a random place.
    """

    sound: Callable[[int], Sound]
    labels: Tensor
    length: int
    chunks: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        sounds = torch.from_numpy(np.stack([self._chunks(i) for i in indices]))
        return sounds, self.labels[torch.tensor(indices)]

    def _chunks(self, index: int) -> np.ndarray:
        sound, places = self.sound(index), [(i + 0.5) / self.chunks for i in range(self.chunks)]
        return np.stack([cut(sound, self.length, at) for at in places or [torch.rand(()).item()]])
