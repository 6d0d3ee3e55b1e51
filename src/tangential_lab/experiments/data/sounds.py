"""Recordings: read from files, brought to one rate, cut to one length."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tangential_lab.experiments.data.sources import DataError

Sound = np.ndarray  # samples [n], float32, full scale at 1


def read(path: Path, rate: int) -> Sound:
    """Samples of a file in one of libsndfile's formats (WAV, FLAC, Ogg, MP3, ...).

    Channels are averaged, another rate is resampled by a polyphase filter. A file that is cut off
    gives what is left of it, where its format allows.

    Args:
        path: Of the file.
        rate: Samples a second that are wanted.

    Raises:
        DataError: it is missing, no sound file or empty, or has samples that are not finite.
    """
    import soundfile

    try:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as sound: {error}") from error
    if not len(samples):
        raise DataError(f"{path} is empty, allowed is a recording of one sample or more")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} has samples that are not finite, allowed are finite ones")
    return resampled(samples.mean(1), own, rate)


def samples_in(path: Path) -> int:
    """Samples of a channel in a file, as its header says.

    Raises:
        DataError: it is no sound file.
    """
    import soundfile

    try:
        return soundfile.info(path).frames
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path} cannot be read as sound: {error}") from error


def resampled(sound: Sound, own: int, rate: int) -> Sound:
    """The sound at another rate."""
    if own == rate:
        return sound
    from scipy.signal import resample_poly

    return resample_poly(sound, rate, own).astype(np.float32)


def cut(sound: Sound, length: int, place: float) -> Sound:
    """`length` samples, from the start (place 0) to the end (1); a shorter one amid silence."""
    start = round(place * abs(len(sound) - length))
    if len(sound) >= length:
        return sound[start : start + length]
    result = np.zeros(length, np.float32)
    result[start : start + len(sound)] = sound
    return result


def level(sound: Sound) -> Sound:
    """The sound at a root mean square of .1; silence stays silent."""
    power = float(np.square(sound, dtype=np.float64).mean())
    return sound if power == 0 else (sound * (0.1 / power**0.5)).astype(np.float32)


@dataclass(frozen=True)
class Recordings:
    """A split of recordings; batches are sounds [n, chunks, length] and labels [n, ...].

    Args:
        sound: A recording by its number; may draw from torch's global generator.
        labels: Of all recordings.
        length: Samples of a chunk.
        chunks: Cut from a recording at equal distances; 0 is one, cut at random.
        augment: Changes the chunks of a batch by chance.
    """

    sound: Callable[[int], Sound]
    labels: Tensor
    length: int
    chunks: int = 0
    augment: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        """Number of recordings, not of fields."""
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The batch of these recordings."""
        sounds = torch.from_numpy(np.stack([self._chunks(i) for i in indices]))
        sounds = self.augment(sounds) if self.augment else sounds
        return sounds, self.labels[torch.tensor(indices)]

    def _chunks(self, index: int) -> np.ndarray:
        sound, places = self.sound(index), [(i + 0.5) / self.chunks for i in range(self.chunks)]
        return np.stack([cut(sound, self.length, at) for at in places or [torch.rand(()).item()]])
