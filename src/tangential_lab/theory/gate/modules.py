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
    """A small classifier of inputs [samples, *size], and the weight in it that is watched."""

    layers: Callable[[], list[nn.Module]]  # before the classifier
    size: tuple[int, ...]
    weight: str = "0.weight"
    scale: float = 1.0  # of the inputs

    def build(self) -> nn.Module:
        """A new model."""
        return nn.Sequential(*self.layers(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))


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


def _convolution() -> nn.Conv2d:
    return nn.Conv2d(IMAGE[0], CHANNELS, 3, bias=False)


def _batch_norm() -> list[nn.Module]:
    return [_convolution(), nn.BatchNorm2d(CHANNELS)]


def _layer_norm() -> list[nn.Module]:
    return [nn.Linear(WIDTH, WIDTH, bias=False), nn.LayerNorm(WIDTH)]


def _transposed() -> list[nn.Module]:
    return [nn.ConvTranspose2d(IMAGE[0], CHANNELS, 3, bias=False), nn.BatchNorm2d(CHANNELS)]


EXAMPLES = {
    "Conv2d, BatchNorm": Example(_batch_norm, IMAGE),
    f"Conv2d, BatchNorm, x * {SMALL:g}": Example(_batch_norm, IMAGE, scale=SMALL),
    "Linear, LayerNorm": Example(_layer_norm, TOKENS),
    f"Conv2d, GroupNorm({GROUPS})": Example(
        lambda: [_convolution(), nn.GroupNorm(GROUPS, CHANNELS)], IMAGE
    ),
    "ConvTranspose2d, BatchNorm": Example(_transposed, IMAGE),
    "queries, QK-norm per head": Example(lambda: [CosineAttention()], TOKENS, "0.q.weight"),
    "Conv2d, no normalisation": Example(lambda: [_convolution()], IMAGE),
}
