"""Recordings are read, resampled, cut and levelled."""

import math

import numpy as np
import pytest
import soundfile
import torch
from tones import tone

from tangential_lab.experiments.audio.sounds import Recordings, cut, level, read
from tangential_lab.experiments.data.sources import DataError


def pitch_hz(sound, rate):
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return np.argmax(spectrum) * rate / len(sound)


@pytest.mark.parametrize("form", ["wav", "flac", "ogg"])
def test_formats_are_read(form, tmp_path):
    path = tmp_path / f"tone.{form}"
    soundfile.write(path, tone(440, 16000), 16000)
    sound = read(path, 16000)
    assert sound.shape == (16000,)
    assert sound.dtype == np.float32
    assert np.abs(sound - tone(440, 16000)).max() < (0.02 if form == "ogg" else 1e-4)


@pytest.mark.parametrize("own", [8000, 22050, 44100])
def test_another_rate_is_resampled(own, tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(440, own), own)
    sound = read(tmp_path / "tone.wav", 16000)
    assert len(sound) == 16000
    assert pitch_hz(sound, 16000) == pytest.approx(440, abs=1)
    assert np.abs(sound - tone(440, 16000))[500:-500].max() < 5e-3


def test_resampling_leaves_no_mirror_image(tmp_path):
    """7 kHz, which 8 kHz cannot hold, would come back as 1 kHz."""
    soundfile.write(tmp_path / "high.wav", tone(7000, 16000), 16000)
    assert np.abs(read(tmp_path / "high.wav", 8000))[500:-500].max() < 5e-3


def test_channels_are_averaged(tmp_path):
    both = np.stack([tone(440, 16000), 3 * tone(440, 16000, amplitude=0.1)], 1)
    soundfile.write(tmp_path / "stereo.wav", both, 16000, subtype="FLOAT")
    assert np.allclose(read(tmp_path / "stereo.wav", 16000), both.mean(1))


def write_noise(path):
    path.write_bytes(b"no sound at all" * 100)


def write_nothing(path):
    soundfile.write(path, np.zeros(0), 16000)


def write_infinity(path):
    soundfile.write(path, np.array([0.0, math.inf]), 16000, subtype="FLOAT")


def write_zero_bytes(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (write_noise, r"cannot read .*broken\.wav as sound"),
        (write_zero_bytes, r"cannot read .*broken\.wav as sound"),
        (write_nothing, r"broken\.wav must contain at least one sample"),
        (write_infinity, r"broken\.wav has samples that are not finite"),
        (lambda path: None, r"cannot read .*broken\.wav as sound"),
    ],
)
def test_errors_name_the_file(write, why, tmp_path):
    write(tmp_path / "broken.wav")
    with pytest.raises(DataError, match=why):
        read(tmp_path / "broken.wav", 16000)


def test_a_truncated_file_gives_its_remaining_samples(tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, tone(440, 16000), 16000)
    path.write_bytes(path.read_bytes()[:16044])
    assert len(read(path, 16000)) == 8000


def test_cut():
    sound = np.arange(1, 6, dtype=np.float32)
    assert [cut(sound, 3, place).tolist() for place in (0, 0.5, 1)] == [
        [1, 2, 3],
        [2, 3, 4],
        [3, 4, 5],
    ]
    assert cut(sound, 7, 0.5).tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert cut(sound, 7, 1).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert cut(sound, 5, 0.3).tolist() == sound.tolist()


def test_level():
    assert np.square(level(tone(440, 16000))).mean() == pytest.approx(0.01)
    assert not level(np.zeros(9, np.float32)).any()


def test_chunks_are_spread_evenly():
    split = Recordings(lambda i: np.arange(160, dtype=np.float32), torch.tensor([3]), 80, chunks=4)
    sounds, labels = split.__getitems__([0])
    assert sounds.shape == (1, 4, 80)
    assert sounds[0, :, 0].tolist() == [10, 30, 50, 70]
    assert labels.tolist() == [3]


def test_random_chunks_use_torchs_generator():
    split = Recordings(lambda i: np.arange(160, dtype=np.float32), torch.zeros(8), 80)
    drawn = [(torch.manual_seed(seed), split.__getitems__([0, 1, 2])[0])[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
