"""Small models, each with a weight that is scale-invariant in its own way, or not at all."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

IMAGE, TOKENS = (3, 6, 6), (5, 16)  # inputs of a sample: channels and pixels, tokens and features
CHANNELS, GROUPS, WIDTH, HEADS, CLASSES = 8, 2, TOKENS[-1], 4, 3
ATTENTION_SCALE = 4.0  # of the cosines of queries and keys
SMALL = 0.04  # makes inputs so small that BatchNorm's eps leaves a radial part in the gradient


class Example(NamedTuple):
    """A small classifier, and the weight in it that is watched."""

    build: Callable[[], nn.Module]  # of inputs [samples, *size]
    size: tuple[int, ...]
    weight: str = "0.weight"


class CosineAttention(nn.Module):
    """Attention whose queries and keys are normalised per head: a head of queries is one unit."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """The attention [samples, tokens, width] over x [samples, tokens, width]."""
        projected = (layer(x) for layer in (self.q, self.k, self.v))
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in projected)
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        y = scaled_dot_product_attention(q, k, v, scale=ATTENTION_SCALE)
        return y.transpose(1, 2).flatten(2)


class Scaled(nn.Module):
    """Multiplies its input by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The product, in the shape of x."""
        return self.factor * x


def _classifier(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))


def _plain() -> nn.Module:
    return _classifier(_convolution())


def _convolution() -> nn.Conv2d:
    return nn.Conv2d(IMAGE[0], CHANNELS, 3, bias=False)


def _batch_norm() -> nn.Module:
    return _classifier(_convolution(), nn.BatchNorm2d(CHANNELS))


def _small_inputs() -> nn.Module:
    return _classifier(Scaled(SMALL), _convolution(), nn.BatchNorm2d(CHANNELS))


def _layer_norm() -> nn.Module:
    return _classifier(nn.Linear(WIDTH, WIDTH, bias=False), nn.LayerNorm(WIDTH))


def _group_norm() -> nn.Module:
    return _classifier(_convolution(), nn.GroupNorm(GROUPS, CHANNELS))


def _transposed() -> nn.Module:
    layer = nn.ConvTranspose2d(IMAGE[0], CHANNELS, 3, bias=False)
    return _classifier(layer, nn.BatchNorm2d(CHANNELS))


def _heads() -> nn.Module:
    return _classifier(CosineAttention())


EXAMPLES = {
    "Conv2d, BatchNorm": Example(_batch_norm, IMAGE),
    f"Conv2d, BatchNorm, x * {SMALL:g}": Example(_small_inputs, IMAGE, "1.weight"),
    "Linear, LayerNorm": Example(_layer_norm, TOKENS),
    f"Conv2d, GroupNorm({GROUPS})": Example(_group_norm, IMAGE),
    "ConvTranspose2d, BatchNorm": Example(_transposed, IMAGE),
    "queries, QK-norm per head": Example(_heads, TOKENS, "0.q.weight"),
    "Conv2d, no normalisation": Example(_plain, IMAGE),
}
