"""Harmonic filters against closed forms, and the published net."""

import math

import pytest
import torch
from tones import tone

from tangential import audit
from tangential_lab.experiments.audio.harmonic_cnn import HarmonicCNN, HarmonicFilters


def test_filters_are_at_the_harmonics_of_half_semitones():
    notes = HarmonicFilters(16000).notes.double()
    assert len(notes) == 128
    assert notes[0].item() == pytest.approx(440 * 2 ** (-45 / 12))  # C1
    assert torch.allclose(notes[1:] / notes[:-1], torch.tensor(2 ** (1 / 24)).double(), atol=1e-6)
    assert 6 * notes[-1] < 8000


@pytest.mark.parametrize("q", [0.5, 1.0, 3.0])
@pytest.mark.slow
def test_responses_are_the_published_triangles(q):
    """Centre h f0 and width (.1079 h f0 + 24.7)/Q, measured on a fine grid of frequencies."""
    filters = HarmonicFilters(16000, n_fft=2**16)
    filters.q.data.fill_(q)
    with torch.no_grad():
        responses = filters.responses().double()
    bin_hz = 16000 / 2**16
    hz = torch.arange(len(responses)).double() * bin_hz
    for harmonic in (1, 3, 6):
        for note in (20, 64, 127):
            centre = harmonic * 440 * 2 ** ((24 + note / 2 - 69) / 12)
            width = (0.1079 * centre + 24.7) / q
            triangle = responses[:, (harmonic - 1) * 128 + note]
            if centre + width / 2 > 8000:  # a part of it is above what can be heard
                continue
            passed = hz[triangle > 0]
            assert (triangle * hz).sum() / triangle.sum() == pytest.approx(centre, abs=bin_hz / 2)
            assert passed[-1] - passed[0] == pytest.approx(width, abs=2.1 * bin_hz)
            assert triangle.sum() * bin_hz == pytest.approx(width / 2, rel=0.01)
            assert triangle.max() == pytest.approx(1, abs=2 * bin_hz / width)


def test_a_tone_is_heard_as_computed_by_hand():
    """Hann's window gives a tone of amplitude a on bin k the powers (a n/4)^2 (1/4, 1, 1/4)."""
    filters, n, k = HarmonicFilters(16000), 512, 40
    with torch.no_grad():
        heard = filters(torch.from_numpy(tone(k * 16000 / n, 16000))[None])
        passed = filters.responses()[k - 1 : k + 2]
    power = (0.5 * n / 4) ** 2 * torch.tensor([0.25, 1, 0.25]) @ passed
    expected = 10 * power.clamp_min(1e-10).log10().view(6, 128)
    middle = heard[0, :, :, heard.shape[-1] // 2]
    loud = expected > -30  # elsewhere there is only rounding error
    assert loud.sum() > 20
    assert torch.allclose(middle[loud], expected[loud], atol=0.01)


def test_harmonics_of_a_sweep_follow_it():
    """From 200 to 1,000 Hz: the first harmonic's loudest band rises with it, the second halves."""
    rate, seconds = 16000, 4.0
    time = torch.arange(int(rate * seconds)) / rate
    low, high = 200.0, 1000.0
    phase = 2 * math.pi * (low * time + (high - low) * time**2 / (2 * seconds))
    filters = HarmonicFilters(rate, n_fft=2048)
    with torch.no_grad():
        heard = filters((0.5 * phase.sin())[None])[0]
    at = torch.arange(heard.shape[-1]) * 1024 / rate
    hz = (low + (high - low) * at / seconds)[4:-4]
    for harmonic in (1, 2):
        loudest = filters.notes[heard[harmonic - 1].argmax(0)[4:-4]]
        assert ((loudest * harmonic / hz).log2().abs() < 1.5 / 12).all()


def test_the_filter_width_q_is_learned():
    filters = HarmonicFilters(16000)
    filters(torch.randn(2, 16000)).mean().backward()
    assert filters.q.grad is not None
    assert filters.q.grad.abs() > 1e-3


def test_half_precision_does_not_overflow():
    filters = HarmonicFilters(16000)
    with torch.autocast("cpu", torch.float16):
        heard = filters(10 * torch.from_numpy(tone(440, 16000))[None])
    assert heard.dtype == torch.float32
    assert heard.isfinite().all()


@pytest.mark.slow
def test_the_published_net():
    """3.63 million weights; the published code has 1,920 more, biases before BatchNorms."""
    net = HarmonicCNN(50, HarmonicFilters(16000))
    assert sum(p.numel() for p in net.parameters()) == 3_629_119
    assert net(torch.randn(2, 80000)).shape == (2, 50)


@pytest.mark.parametrize("samples", [8000, 16000, 80000, 160000])
def test_any_length_is_heard(samples):
    net = HarmonicCNN(7, HarmonicFilters(16000), width=4, residual=False).eval()
    assert net(torch.randn(2, samples)).shape == (2, 7)


@pytest.mark.slow
def test_the_audit_finds_convolutions_scale_invariant():
    """The first block's, too, because its input is normalised; Q and the last layer are not."""
    torch.manual_seed(1)
    net = HarmonicCNN(5, HarmonicFilters(8000, per_semitone=1), width=4, dropout=0.0)
    result = audit(net, [torch.randn(6, 8000) for _ in range(3)])
    invariant = set(result.names("row"))
    assert invariant == {
        *(f"blocks.{i}.conv.weight" for i in range(7)),
        *(f"blocks.{i}.second.0.weight" for i in (1, 2, 3, 5, 6)),
        "head.2.weight",
    }
