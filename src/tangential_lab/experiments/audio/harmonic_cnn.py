"""Harmonic CNN: learned harmonic filters before a plain convolutional net.

Won, Chun, Nieto, Serra, "Data-driven harmonic filters for audio representation learning", 2020.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

HARMONICS = 6  # multiples of each note, from 1
LOWEST_NOTE = 24  # C1, 32.7 Hz, by MIDI's numbers
ALPHA, BETA_HZ = 0.1079, 24.7  # of the ear's critical bands: width = alpha f + beta
FLOOR = 1e-10  # of a filter's power: -100 dB


class HarmonicFilters(nn.Module):
    """Band-pass filters at the harmonics of notes, applied to the power of a short-time spectrum.

    The filter at f is a triangle over frequency: 1 at f, and 0 at a distance of width/2 or more,
    where width = (.1079 f + 24.7 Hz)/Q. All filters share Q, which is learned. A triangle between
    two bins of the spectrum passes nothing, as in the published code at the lowest notes.

    Args:
        rate: Samples per second.
        n_fft: Samples per spectrum; the hop length is half of it.
        per_semitone: Notes per semitone, from C1 to the last one whose harmonics all exist.
    """

    notes: Tensor
    bins: Tensor
    window: Tensor

    def __init__(self, rate: int, *, n_fft: int = 512, per_semitone: int = 2) -> None:
        super().__init__()
        self.n_fft = n_fft
        highest = math.floor(69 + 12 * math.log2(rate / (2 * HARMONICS) / 440))
        count = (highest - LOWEST_NOTE) * per_semitone
        midi = LOWEST_NOTE + torch.arange(count, dtype=torch.float64) / per_semitone
        notes = 440 * 2 ** ((midi - 69) / 12)
        self.register_buffer("notes", notes.float())
        self.register_buffer("bins", torch.linspace(0, rate / 2, n_fft // 2 + 1))
        self.register_buffer("window", torch.hann_window(n_fft))
        self.q = nn.Parameter(torch.ones(1))

    def responses(self) -> Tensor:
        """The share of each bin that each filter passes [bins, harmonics * notes]."""
        multiples = torch.arange(1, HARMONICS + 1, device=self.notes.device)
        centres = torch.outer(multiples, self.notes).flatten()
        widths = (ALPHA * centres + BETA_HZ) / self.q.clamp_min(0.01)
        return (1 - 2 * (self.bins[:, None] - centres).abs() / widths).clamp_min(0)

    def forward(self, sound: Tensor) -> Tensor:
        """Decibels [n, harmonics, notes, frames] of sounds [n, samples]."""
        with torch.autocast(sound.device.type, enabled=False):  # float16 ends at 65,504
            sound = sound.to(self.window.dtype)
            hop, window = self.n_fft // 2, self.window
            spectrum = torch.stft(sound, self.n_fft, hop, window=window, return_complex=True)
            power = spectrum.abs().square().transpose(1, 2) @ self.responses()
            decibels = 10 * power.clamp_min(FLOOR).log10()
        return decibels.unflatten(2, (HARMONICS, -1)).permute(0, 2, 3, 1)


class Block(nn.Module):
    """A convolution, BatchNorm, ReLU, in a residual block a second one, a maximum over 2 x 2."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = None
        if residual:
            second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.second = nn.Sequential(second, nn.BatchNorm2d(outputs))
        # without ceil_mode, one second has too few frames for seven halvings
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Features at half the resolution."""
        features = self.norm(self.conv(x)).relu()
        if self.second is not None:
            features = (x + self.second(features)).relu()
        return self.pool(features)


class HarmonicCNN(nn.Module):
    """Harmonic filters, seven blocks, the maximum over time, two linear layers.

    Args:
        classes: Number of outputs, logits.
        filters: The first layer.
        width: Channels of the first four blocks; the last three have twice as many.
        residual: Whether blocks that keep their number of channels are residual, as published.
        dropout: Dropout probability before the last layer.
    """

    def __init__(
        self,
        classes: int,
        filters: HarmonicFilters,
        *,
        width: int = 128,
        residual: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.filters, self.norm = filters, nn.BatchNorm2d(HARMONICS)
        widths = [HARMONICS, *[width] * 4, *[2 * width] * 3]
        blocks = (Block(i, o, residual=residual and i == o) for i, o in pairwise(widths))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 2 * width, bias=False),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, classes),
        )

    def forward(self, sound: Tensor) -> Tensor:
        """Logits [n, classes] of sounds [n, samples]."""
        return self.head(self.blocks(self.norm(self.filters(sound))))
