"""Small models for the audit, inputs for them, and the units that an audit finds."""

import torch
from torch import nn

ROW, WHOLE = ("row", 0, 1), ("weight", 0, 1)
IMAGE, VECTOR, TOKENS, SEQUENCE = (5, 3, 6, 6), (7, 8), (5, 12), (4, 5, 8)


class Model(nn.Module):
    """Modules by name, and how the output comes from them and the input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.compute = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.compute(self, x)


class Scale(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))


def sequence(*modules):
    return Model(lambda m, x: m.net(x), net=nn.Sequential(*modules))


def conv(bias=False, **options):
    return nn.Conv2d(3, 6, 3, bias=bias, **options)


def dense(bias=False):
    return nn.Linear(8, 6, bias=bias)


def net(forward=lambda m, x: m.norm(m.inner(x)), norm=nn.LayerNorm, bias=False, **more):
    """A weight that is scale-invariant as a whole, by default; `more` modules and attributes."""
    return Model(forward, inner=nn.Linear(8, 6, bias=bias), norm=norm(6), **more)


def inputs(count=3, size=VECTOR):
    return [torch.randn(size) for _ in range(count)]


def units_of(result):
    """Projection, row axis and row groups of the scale-invariant weights, by name."""
    return {
        line.name: (line.kind, line.row_axis, line.row_groups)
        for line in result.lines
        if line.kind in ("row", "weight")
    }
