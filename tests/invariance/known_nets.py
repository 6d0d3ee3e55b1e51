"""Models whose scale-invariant and dead weights are known."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from audit_models import (
    IMAGE,
    ROW,
    SEQUENCE,
    TOKENS,
    VECTOR,
    WHOLE,
    Model,
    Scale,
    conv,
    dense,
    inputs,
    sequence,
)
from torch import nn
from torch.nn.functional import linear, normalize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


@dataclass(frozen=True)
class Known:
    """How a model is made, the size of a batch, and the truth about its weights."""

    make: Callable[[], nn.Module]
    size: tuple[int, ...]
    invariant: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    dead: tuple[str, ...] = ()


class Attention(nn.Module):
    """Two heads of four, queries and keys normalised per head; rows of q, then k, then v."""

    def __init__(self, bias=False):
        super().__init__()
        self.in_proj = nn.Linear(8, 24, bias=bias)

    def forward(self, x):
        q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in self.in_proj(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(
            normalize(q, dim=-1), normalize(k, dim=-1), v
        )
        return y.transpose(1, 2).flatten(2)


def normed_heads(m, x):
    """Cosine attention of two heads: its queries and keys have units of four rows."""
    heads = [normalize(y.unflatten(-1, (2, 4)), dim=-1).transpose(1, 2) for y in (m.q(x), m.k(x))]
    return nn.functional.scaled_dot_product_attention(heads[0], heads[1], m.v(x)[:, None])


def fused_heads(m, x):
    """As above, queries and keys from one weight."""
    q, k = (
        normalize(y.unflatten(-1, (2, 4)), dim=-1).transpose(1, 2) for y in m.qk(x).chunk(2, -1)
    )
    return nn.functional.scaled_dot_product_attention(q, k, m.v(x)[:, None])


def frozen_batch_norm():
    model = sequence(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    model.net[1].running_var.uniform_(0.5, 2)
    model.net[1].eval()
    return model


def zeroed(model, *names):
    """Weights that start at zero, as many inits have it."""
    for name in names:
        nn.init.zeros_(model.get_parameter(name))
    return model


def frozen_bias():
    model = zeroed(sequence(nn.Linear(8, 6), nn.LayerNorm(6)), "net.0.bias")
    model.net[0].bias.requires_grad_(False)
    return model


def tied():
    layers = {"a": nn.Linear(8, 8), "norm": nn.BatchNorm1d(8), "b": nn.Linear(8, 8)}
    model = Model(lambda m, x: m.b(m.norm(m.a(x))), **layers)
    model.b.weight = model.a.weight
    return model


def tied_normed():
    model = Model(
        lambda m, x: m.norm(m.b(m.norm(m.a(x)))),
        a=nn.Linear(8, 8, bias=False),
        norm=nn.BatchNorm1d(8, affine=False),
        b=nn.Linear(8, 8, bias=False),
    )
    model.b.weight = model.a.weight
    return model


def small_scale():
    scale = Scale(6)
    nn.init.constant_(scale.weight, 1e-6)
    return scale


def complex_weight():
    def forward(m, x):
        dtype = torch.complex64 if x.dtype == torch.float32 else torch.complex128
        return normalize(torch.view_as_real(x.to(dtype) @ m.w).flatten(1))

    return Model(forward, w=nn.Parameter(torch.randn(8, 3, dtype=torch.complex64)))


FIRST_BY_ROW, FIRST_WHOLE = {"net.0.weight": ROW}, {"net.0.weight": WHOLE}

NETS = {
    "none": Known(lambda: sequence(conv(True), nn.ReLU()), IMAGE),
    "none, linear": Known(lambda: sequence(dense(), nn.Tanh(), nn.Linear(6, 2)), VECTOR),
    "batch norm": Known(
        lambda: sequence(conv(), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)),
        IMAGE,
        FIRST_BY_ROW,
    ),
    "batch norm, bias": Known(
        lambda: sequence(conv(True), nn.BatchNorm2d(6)), IMAGE, FIRST_BY_ROW, ("net.0.bias",)
    ),
    "layer norm": Known(lambda: sequence(dense(), nn.LayerNorm(6)), VECTOR, FIRST_WHOLE),
    "layer norm, bias": Known(lambda: sequence(dense(True), nn.LayerNorm(6)), VECTOR),
    "layer norm, zero bias": Known(
        lambda: zeroed(sequence(dense(True), nn.LayerNorm(6)), "net.0.bias"), VECTOR
    ),
    "layer norm, bias frozen at zero": Known(frozen_bias, VECTOR, FIRST_WHOLE),
    "group norm": Known(
        lambda: sequence(conv(), nn.GroupNorm(3, 6)), IMAGE, {"net.0.weight": ("row", 0, 2)}
    ),
    "group norm, bias": Known(lambda: sequence(conv(True), nn.GroupNorm(3, 6)), IMAGE),
    "group norm, one group": Known(
        lambda: sequence(conv(), nn.GroupNorm(1, 6)), IMAGE, FIRST_WHOLE
    ),
    "instance norm": Known(
        lambda: sequence(conv(True), nn.InstanceNorm2d(6)), IMAGE, FIRST_BY_ROW, ("net.0.bias",)
    ),
    "rms norm": Known(lambda: sequence(dense(), nn.RMSNorm(6)), VECTOR, FIRST_WHOLE),
    "rms norm, bias": Known(lambda: sequence(dense(True), nn.RMSNorm(6)), VECTOR),
    "scale between norms": Known(  # a vector that is invariant as a whole
        lambda: sequence(nn.RMSNorm(8), nn.RMSNorm(8)), VECTOR, FIRST_WHOLE
    ),
    "weight norm": Known(
        lambda: sequence(weight_norm(dense(True)), nn.ReLU()),
        VECTOR,
        {"net.0.parametrizations.weight.original1": ROW},
    ),
    "spectral norm": Known(
        lambda: sequence(spectral_norm(dense(True)), nn.ReLU()),
        VECTOR,
        {"net.0.parametrizations.weight.original": WHOLE},
    ),
    "cosine head": Known(
        lambda: Model(
            lambda m, x: linear(normalize(m.body(x)), normalize(m.head.weight)),
            body=dense(),
            head=Scale(4, 6),
        ),
        VECTOR,
        {"head.weight": ROW, "body.weight": WHOLE},
    ),
    "residual": Known(
        lambda: Model(
            lambda m, x: m.out(x + m.norm(m.inner(x))),
            inner=nn.Linear(8, 8, bias=False),
            norm=nn.BatchNorm1d(8),
            out=nn.Linear(8, 3),
        ),
        VECTOR,
        {"inner.weight": ROW},
    ),
    "residual, norm after": Known(
        lambda: Model(
            lambda m, x: m.norm(x + m.inner(x)), inner=nn.Linear(8, 8), norm=nn.BatchNorm1d(8)
        ),
        VECTOR,
        {},
        ("inner.bias",),
    ),
    "layer scale near zero": Known(  # LN(Wx + 1e-6 Vx): W seems invariant at the start
        lambda: Model(
            lambda m, x: m.norm(m.a(x) + m.scale.weight * m.tanh(m.b(x))),
            a=dense(),
            b=dense(),
            tanh=nn.Tanh(),
            scale=small_scale(),
            norm=nn.LayerNorm(6),
        ),
        VECTOR,
    ),
    "zero head": Known(
        lambda: zeroed(
            sequence(dense(), nn.BatchNorm1d(6), nn.Linear(6, 3)), "net.2.weight", "net.2.bias"
        ),
        VECTOR,
        FIRST_BY_ROW,
    ),
    "transposed convolution": Known(
        lambda: sequence(nn.ConvTranspose2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
        IMAGE,
        {"net.0.weight": ("row", 1, 1)},
    ),
    "transposed convolution, group norm": Known(
        lambda: sequence(nn.ConvTranspose2d(3, 6, 3, bias=False), nn.GroupNorm(2, 6)),
        IMAGE,
        {"net.0.weight": ("row", 1, 3)},
    ),
    "grouped convolution": Known(
        lambda: sequence(conv(groups=3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, groups=2)),
        IMAGE,
        FIRST_BY_ROW,
    ),
    "depthwise convolution": Known(
        lambda: sequence(nn.Conv2d(3, 3, 3, groups=3, bias=False), nn.BatchNorm2d(3)),
        IMAGE,
        FIRST_BY_ROW,
    ),
    "embedding": Known(
        lambda: Model(
            lambda m, x: m.norm(m.embedding((9 * x.sigmoid()).long())),
            embedding=nn.Embedding(10, 6),
            norm=nn.LayerNorm(6),
        ),
        TOKENS,
        {"embedding.weight": ROW},
    ),
    "embedding, positions": Known(
        lambda: Model(
            lambda m, x: m.norm(m.embedding((9 * x.sigmoid()).long()) + m.position.weight),
            embedding=nn.Embedding(10, 6),
            position=Scale(12, 6),
            norm=nn.LayerNorm(6),
        ),
        TOKENS,
    ),
    "heads": Known(
        lambda: Model(
            normed_heads, q=nn.Linear(8, 8, bias=False), k=nn.Linear(8, 8), v=nn.Linear(8, 4)
        ),
        SEQUENCE,
        {"q.weight": ("row", 0, 4)},
    ),
    "heads, fused": Known(
        lambda: Model(fused_heads, qk=nn.Linear(8, 16, bias=False), v=nn.Linear(8, 4)),
        SEQUENCE,
        {"qk.weight": ("row", 0, 4)},
    ),
    "heads, with values": Known(Attention, SEQUENCE),
    "attention of torch": Known(
        lambda: Model(
            lambda m, x: m.mha(x, x, x)[0], mha=nn.MultiheadAttention(8, 2, batch_first=True)
        ),
        SEQUENCE,
    ),
    "tied": Known(tied, VECTOR, {}, ("a.bias",)),
    "tied, both normalised": Known(tied_normed, VECTOR, {"a.weight": ROW}),
    "frozen batch norm": Known(frozen_batch_norm, IMAGE),
    "dropout": Known(
        lambda: sequence(dense(), nn.Dropout(0.3), nn.BatchNorm1d(6)), VECTOR, FIRST_BY_ROW
    ),
    "constants made in forward": Known(
        lambda: Model(lambda m, x: m.norm(m.a(x @ torch.eye(8))), a=dense(), norm=nn.LayerNorm(6)),
        VECTOR,
        {"a.weight": WHOLE},
    ),
    "one row": Known(
        lambda: sequence(nn.Linear(8, 1, bias=False), nn.BatchNorm1d(1)), VECTOR, FIRST_BY_ROW
    ),
    "rows of one element": Known(  # rescaling removes it: such a weight has no effect
        lambda: sequence(nn.Conv2d(3, 3, 1, groups=3, bias=False), nn.BatchNorm2d(3)),
        IMAGE,
        {},
        ("net.0.weight",),
    ),
    "large eps": Known(lambda: sequence(conv(), nn.BatchNorm2d(6, eps=0.1)), IMAGE, FIRST_BY_ROW),
    "complex": Known(complex_weight, VECTOR, {"w": WHOLE}),
}


def built(name):
    """A model of this name and three batches for it."""
    known = NETS[name]
    model = known.make()
    return model, inputs(size=known.size)
