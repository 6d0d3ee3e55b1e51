"""What a claim about optimizers is measured on: scale-invariant rows, driven step by step.

The loss is a random linear function of the rows' directions, another one at every step, in
float64. It does not see the rows' norms, so every row is orthogonal to its gradient.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Optimizer

from tangential.optim import Projection, WdRatio

EXACT = 1e-12  # relative error of an exact claim in float64
CLOSE = 0.03  # of a claim to first order in lr x decay
PAPER = "Heo et al. 2021"
DERIVED = "derived"

Draw = Callable[[], Tensor]


class Lemma(NamedTuple):
    """A claim and its worst case: `error` is relative, or absolute where 0 is claimed.

    >>> Lemma("2 + 2", "arithmetic", 4.0, 4.1, 0.025, exact=True).holds
    False
    """

    name: str
    source: str
    claimed: float
    measured: float
    error: float
    exact: bool

    @property
    def holds(self) -> bool:
        """Whether the error is below 1e-12, for a claim that is not exact below .03."""
        return self.error < (EXACT if self.exact else CLOSE)


class Setting(NamedTuple):
    """What a claim is measured on.

    Args:
        shape: Rows, and elements a row, which are at least 2.
        lr: Step size.
        beta: Momentum, or the decay rate of Adam's first moment, in [0, 1).
        decay: Weight decay per unit of lr, as the optimizers take it.
        wd_ratio: Share of it left where a row is projected, or "matched".
        projection: "auto" fires by row here; "weight" projects the whole.
        steps: Number of steps.
        seed: Of weights and losses.

    >>> Setting(beta=0.5).lr
    0.1
    """

    shape: tuple[int, int] = (8, 32)
    lr: float = 0.1
    beta: float = 0.9
    decay: float = 0.01
    wd_ratio: WdRatio = 0.1
    projection: Projection = "auto"
    steps: int = 30
    seed: int = 0


USUAL = Setting()


def drawn(setting: Setting) -> tuple[Tensor, Draw]:
    """A random weight [rows, fan], and what draws more tensors of its shape.

    >>> weight, draw = drawn(USUAL)
    >>> weight.shape == draw().shape == torch.Size(USUAL.shape)
    True
    """
    generator = torch.Generator().manual_seed(setting.seed)

    def draw() -> Tensor:
        return torch.randn(setting.shape, dtype=torch.float64, device="cpu", generator=generator)

    return draw().requires_grad_(), draw


def stepped(optimizer: Optimizer, weight: Tensor, draw: Draw, steps: int) -> Iterator[Tensor]:
    """Take steps, each down another loss; yield what the weight [rows, fan] was before each.

    >>> weight, draw = drawn(USUAL)
    >>> [before] = stepped(torch.optim.SGD([weight], lr=0.1), weight, draw, 1)
    >>> torch.allclose(square(weight), square(before) + 0.01 * square(weight.grad))
    True
    """
    for _ in range(steps):
        before = weight.detach().clone()
        optimizer.zero_grad()
        (draw() * normalize(weight, dim=1)).sum().backward()
        optimizer.step()
        yield before


def square(rows: Tensor) -> Tensor:
    """Squared norms [rows] of rows [rows, fan].

    >>> square(torch.tensor([[3.0, 4.0]]))
    tensor([25.])
    """
    return rows.detach().square().sum(1)


def tangent(rows: Tensor, of: Tensor) -> Tensor:
    """Rows [rows, fan] less their parts along the rows `of`.

    >>> tangent(torch.tensor([[3.0, 4.0]]), of=torch.tensor([[0.0, 2.0]]))
    tensor([[3., 0.]])
    """
    unit = normalize(of, dim=1)
    return rows - (rows * unit).sum(1, keepdim=True) * unit


def angle_rad(rows: Tensor, others: Tensor) -> Tensor:
    """Angles [rows] between the rows of two tensors, as exact when small as when large.

    >>> angle_rad(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 3.0]]))
    tensor([0.7854])
    """
    along = (others * normalize(rows, dim=1)).sum(1)
    return torch.atan2(tangent(others, of=rows).norm(dim=1), along)


def known(argument: str, value: str, allowed: Iterable[str]) -> None:
    """Raise a ValueError that says what is allowed, unless `value` is.

    >>> known("rule", "AdmP", ["SGDP", "AdamP"])
    Traceback (most recent call last):
    ValueError: rule is 'AdmP', allowed is 'SGDP' or 'AdamP'
    """
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{argument} is {value!r}, allowed is {' or '.join(map(repr, allowed))}")


def worst(name: str, source: str, cases: list[tuple[Tensor, Tensor]]) -> Lemma:
    """The exact lemma whose error is the largest among pairs of claimed and measured [rows].

    A measured value that is not a number is the worst of all.

    >>> worst("sums", "arithmetic", [(torch.tensor([4.0, 5.0]), torch.tensor([4.0, 7.5]))])
    Lemma(name='sums', source='arithmetic', claimed=5.0, measured=7.5, error=0.5, exact=True)
    """
    claimed, measured = (torch.cat(values) for values in zip(*cases, strict=True))
    error = (measured - claimed).abs() / torch.where(claimed == 0, 1, claimed.abs())
    at = error.nan_to_num(torch.inf).argmax()
    figures = (float(values[at]) for values in (claimed, measured, error))
    return Lemma(name, source, *figures, exact=True)
