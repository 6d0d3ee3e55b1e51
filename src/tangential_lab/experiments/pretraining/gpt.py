"""A small GPT with rotary positions, RMSNorm without scales, and normalised queries and keys.

The form of modded-nanogpt (Jordan et al. 2024), without its special embeddings. A head's queries
and keys are divided by their root mean square, so the rows that make one head's queries (or keys)
are one scale-invariant unit.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROTARY_BASE = 10_000.0
MLP_FACTOR = 4
LOGIT_CAP = 30.0  # logits are bounded smoothly, which keeps the loss finite


class Sizes(NamedTuple):
    """The sizes of a net; `width` is a multiple of `heads`, and their ratio is even."""

    layers: int
    width: int
    heads: int
    context: int  # positions that a prediction may depend on


SMALL = Sizes(layers=4, width=128, heads=4, context=64)
GPT2 = Sizes(layers=12, width=768, heads=12, context=1024)  # 124 million weights with a tied head


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square of the last axis."""
    return F.rms_norm(x, (x.shape[-1],))


class Attention(nn.Module):
    """Causal self-attention over [batch, positions, width]."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        linear = lambda: nn.Linear(sizes.width, sizes.width, bias=False)
        self.query, self.key, self.value, self.output = linear(), linear(), linear(), linear()
        half = sizes.width // sizes.heads // 2
        rates = ROTARY_BASE ** -(torch.arange(half) / half)
        angles = torch.outer(torch.arange(sizes.context), rates)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The attention's output, of the same shape."""
        batch, length, width = x.shape
        split = lambda y: y.view(batch, length, self.heads, -1).transpose(1, 2)
        query, key = (
            self._rotated(rms_norm(split(part(x))), length) for part in (self.query, self.key)
        )
        mixed = F.scaled_dot_product_attention(query, key, split(self.value(x)), is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))

    def _rotated(self, x: Tensor, length: int) -> Tensor:
        """Queries or keys [batch, heads, positions, size] turned by their positions."""
        cosines, sines = self.cosines[:length].to(x.dtype), self.sines[:length].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        turned = first * cosines - second * sines, first * sines + second * cosines
        return torch.cat(turned, dim=-1)


class Block(nn.Module):
    """Attention, then two linear layers with squared ReLU, both with a residual path."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes)
        self.up = nn.Linear(sizes.width, MLP_FACTOR * sizes.width, bias=False)
        self.down = nn.Linear(MLP_FACTOR * sizes.width, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the same shape."""
        x = x + self.attention(rms_norm(x))
        return x + self.down(F.relu(self.up(rms_norm(x))).square())


class GPT(nn.Module):
    """Predicts the next token at every position.

    Args:
        tokens: Number of different tokens.
        sizes: Sizes of the net.
        tied: Whether the last layer is the embedding.
    """

    def __init__(self, tokens: int, sizes: Sizes, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.head = nn.Linear(sizes.width, tokens, bias=False)
        self._initialise(sizes)
        if tied:
            self.head.weight = self.embedding.weight

    def _initialise(self, sizes: Sizes) -> None:
        """As GPT-2: deviation .02; less where residual paths add up."""
        for name, parameter in self.named_parameters():
            adds = name.endswith(("output.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / (2 * sizes.layers) ** 0.5 if adds else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token [batch, positions, tokens], for tokens [batch, positions]."""
        x = rms_norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x)
        logits = self.head(rms_norm(x)).float()
        return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP)
