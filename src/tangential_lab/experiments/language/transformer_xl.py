"""Transformer-XL (Dai et al. 2019, arXiv:1901.02860): segments attend to states of former ones.

Shapes: b streams, t positions of a segment, m of memory, k = m + t keys, width d.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm as split_norm


class Sizes(NamedTuple):
    """Sizes of a net."""

    layers: int
    width: int
    heads: int
    head_width: int
    inner: int  # of the feed-forward part
    cutoffs: tuple[int, ...] = ()  # of the adaptive softmax; without any the softmax is full
    dropout: float = 0.1


BASE = Sizes(16, 410, 10, 41, 2100, cutoffs=(20_000, 40_000, 200_000))  # the published base model
STD = 0.02  # of initial weights, as published


class Reach(NamedTuple):
    """How far a position looks back."""

    memory: int  # number of positions before the segment whose states are kept
    same_length: bool = False  # every position sees `memory` positions, itself included
    clamp: int | None = None  # longer distances are treated as this one


class TransformerXL(nn.Module):
    """A language model with relative positions, post-norm and one table for words in and out.

    Args:
        words: Size of the vocabulary, which is sorted by falling frequency.
        sizes: Sizes of the net.
        weight_norm: Split the rows of each linear layer into direction and length: queries, keys,
            values, positions, outputs and both layers of the feed-forward part. The table of
            words, whose rows are embeddings too, is not split.
    """

    def __init__(self, words: int, sizes: Sizes, *, weight_norm: bool = False) -> None:
        super().__init__()
        self.vocabulary = Vocabulary(words, sizes.width, sizes.cutoffs)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.content_bias = nn.Parameter(torch.empty(sizes.heads, sizes.head_width))  # u
        self.position_bias = nn.Parameter(torch.empty(sizes.heads, sizes.head_width))  # v
        self.dropout = nn.Dropout(sizes.dropout)
        for name, param in self.named_parameters():
            if name.endswith((".bias", "cluster_bias")):
                nn.init.zeros_(param)
            else:
                nn.init.normal_(param, mean=float("norm.weight" in name), std=STD)
        for linear in [x for x in self.layers.modules() if isinstance(x, nn.Linear)]:
            if weight_norm:
                split_norm(linear)

    def forward(
        self, tokens: Tensor, targets: Tensor, memory: Tensor, reach: Reach
    ) -> tuple[Tensor, Tensor]:
        """The loss of every target in nats, stream by stream [b t], and the next segment's memory.

        Args:
            tokens: Tokens of the segment [b, t].
            targets: The next token at each position [b, t].
            memory: Inputs of every layer before the segment [layers, b, m, d]; m may be 0.
            reach: How far to look back, and how much to remember.
        """
        states, memory = self.read(tokens, memory, reach)
        # flat: FSDP warns of an output that is a view
        return self.vocabulary.nats(states.flatten(0, 1), targets.flatten()), memory

    def read(self, tokens: Tensor, memory: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
        """The last states [b, t, d], and the memory for the next segment."""
        x = self.dropout(self.vocabulary.embed(tokens))
        keys = memory.shape[2] + tokens.shape[1]
        waves = self.dropout(sinusoids(keys, x, reach.clamp))
        hidden = unseen(tokens.shape[1], keys, reach, x.device)
        inputs = []
        for layer, past in zip(self.layers, memory, strict=True):
            inputs.append(x)
            x = layer(x, past, waves, self.content_bias, self.position_bias, hidden)
        # the last inputs of every layer, without history
        known = torch.cat([memory, torch.stack([x.detach() for x in inputs]).to(memory.dtype)], 2)
        memories = known[:, :, max(0, known.shape[2] - reach.memory) :].contiguous()
        return self.dropout(x), memories


class Layer(nn.Module):
    """Attention and feed-forward, each with a residual and a LayerNorm after it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d, inside = sizes.width, sizes.heads * sizes.head_width
        self.heads, self.scale = sizes.heads, sizes.head_width**-0.5
        self.query = nn.Linear(d, inside, bias=False)
        self.key_value = nn.Linear(d, 2 * inside, bias=False)
        self.position = nn.Linear(d, inside, bias=False)
        self.out = nn.Linear(inside, d, bias=False)
        self.attention_norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(sizes.dropout)
        self.inner, self.outer = nn.Linear(d, sizes.inner), nn.Linear(sizes.inner, d)
        self.feed_norm = nn.LayerNorm(d)

    def forward(
        self, x: Tensor, past: Tensor, waves: Tensor, u: Tensor, v: Tensor, hidden: Tensor
    ) -> Tensor:
        """States [b, t, d] from states [b, t, d] and those before them [b, m, d].

        Attention scores are (q + u).k + (q + v).r, where r depends on the distance.
        """
        key, value = self.key_value(torch.cat([past, x], 1)).chunk(2, -1)
        query, key, value, position = (
            y.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for y in (self.query(x), key, value, self.position(waves))
        )
        u, v = u[:, None], v[:, None]
        by_content = ((query + u) * self.scale) @ key.transpose(-1, -2)
        by_position = ((query + v) * self.scale) @ position.transpose(-1, -2)
        # SDPA is not faster: a bias with a gradient takes its plain path
        scores = (by_content + shifted(by_position)).masked_fill(hidden, -math.inf)
        attended = self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        x = self.attention_norm(x + self.dropout(attended))
        inner = self.dropout(F.relu(self.inner(x)))
        return self.feed_norm(x + self.dropout(self.outer(inner)))


class Vocabulary(nn.Module):
    """One table of words [words, d] for input and output.

    The softmax is adaptive (Grave et al. 2017, arXiv:1609.04309): the head has the frequent words
    and one entry per cluster of rarer words; p(word) = p(cluster) p(word | cluster).
    nn.AdaptiveLogSoftmaxWithLoss cannot share the table with the input, give every word a bias or
    do without clusters. Here, the gradient of a cluster that does not occur is zero instead of
    None, so that processes can average gradients.
    """

    def __init__(self, words: int, width: int, cutoffs: tuple[int, ...] = ()) -> None:
        super().__init__()
        bounds = (0, *cutoffs, words)
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(
                f"cutoffs must be ascending, between 0 and {words} (the words), got {cutoffs}"
            )
        self.starts = bounds[:-1]
        self.sizes = [high - low for low, high in pairwise(bounds)]
        self.weight = nn.Parameter(torch.empty(words, width))
        self.bias = nn.Parameter(torch.empty(words))
        if cutoffs:
            self.cluster_weight = nn.Parameter(torch.empty(len(cutoffs), width))
            self.cluster_bias = nn.Parameter(torch.empty(len(cutoffs)))

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of the table, scaled to about the size of other states [..., d]."""
        return F.embedding(tokens, self.weight) * self.weight.shape[1] ** 0.5

    def nats(self, states: Tensor, targets: Tensor) -> Tensor:
        """-log p of the targets [n] after states [n, d]."""
        weight, *weights = self.weight.split(self.sizes)
        bias, *biases = self.bias.split(self.sizes)
        if not weights:
            return _nats(states, weight, bias, targets)
        cluster = torch.zeros_like(targets)  # of the target; 0 is the head
        for start in self.starts[1:]:
            cluster += targets >= start
        weight = torch.cat([weight, self.cluster_weight])
        bias = torch.cat([bias, self.cluster_bias])
        entry = torch.where(cluster == 0, targets, self.sizes[0] + cluster - 1)
        nats = _nats(states, weight, bias, entry)
        for number, tail in enumerate(zip(weights, biases, strict=True), 1):
            rows = (cluster == number).nonzero().squeeze(1)
            within = targets[rows] - self.starts[number]
            nats = nats.index_add(0, rows, _nats(states[rows], *tail, within))
        return nats


def _nats(states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(states, weight, bias), targets, reduction="none")


def sinusoids(keys: int, like: Tensor, clamp: int | None = None) -> Tensor:
    """Sines and cosines of the distances keys, keys - 1, ..., 0 [keys + 1, d], typed as `like`."""
    width = like.shape[-1]
    dtype = torch.promote_types(like.dtype, torch.float32)  # bfloat16 cannot count that far
    distances = torch.arange(keys, -1, -1, device=like.device, dtype=dtype)
    distances = distances.clamp(max=keys if clamp is None else clamp)
    powers = torch.arange(0, width, 2, device=like.device, dtype=dtype) / width
    angles = torch.outer(distances, 10_000**-powers)
    return torch.cat([angles.sin(), angles.cos()], 1).to(like.dtype)


def shifted(scores: Tensor) -> Tensor:
    """Scores by distance [..., t, k + 1] as scores by key [..., t, k].

    Column j of the input is distance k - j. Key j is at distance m + i - j of query i, so row i
    must move by t - i. Thanks to the extra column, reading the same numbers in rows of k does that
    without a copy. The result for keys after the query is meaningless and must be masked.
    """
    *outer, queries, columns = scores.shape
    keys = columns - 1
    return scores.flatten(-2)[..., queries:].view(*outer, queries, keys)


def unseen(queries: int, keys: int, reach: Reach, device: torch.device) -> Tensor:
    """The keys that a query does not see [t, k]: later and, with `same_length`, distant ones."""
    places = torch.arange(keys, device=device)
    distance = places[keys - queries :, None] - places
    later = distance < 0
    return later | (distance >= reach.memory) if reach.same_length else later
