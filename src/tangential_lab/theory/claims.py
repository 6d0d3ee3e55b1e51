"""A claim about optimizers, and the simulation that measures it on scale-invariant rows.

The loss is a random linear function of the directions of the rows, a new one at every step, in
float64. It does not depend on the norms of the rows, so every row is orthogonal to its gradient.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential.optim import Projection, WdRatio

EXACT = 1e-12  # largest relative error of an exact claim, in float64
CLOSE = 0.03  # largest relative error of a claim that holds to first order in lr x decay
PAPER = "Heo et al. 2021"
DERIVED = "derived"
BETA2 = 0.999  # the decay rate of Adam's second moment

Draw = Callable[[], Tensor]
Build = Callable[[Tensor, "Simulation"], Optimizer]


class Lemma(NamedTuple):
    """A claim and its worst case: `error` is relative, or absolute where 0 is claimed.

    An exact claim allows rounding errors, an estimate the error of its case that follows from
    theory (`bound`), and a claim to first order 3 %.

    >>> Lemma("2 + 2", "arithmetic", 4.0, 4.1, 0.025, exact=True).holds
    False
    """

    name: str
    source: str
    claimed: float
    measured: float
    error: float
    exact: bool
    bound: float | None = None

    @property
    def allowed(self) -> float:
        """The error that must not be reached: 1e-12 if exact, above the bound if there is one."""
        if self.bound is not None:
            return self.bound + EXACT
        return EXACT if self.exact else CLOSE

    @property
    def holds(self) -> bool:
        """Whether the error is below the one allowed."""
        return self.error < self.allowed


class Simulation(NamedTuple):
    """A training run on random losses: the rows, the options of the optimizer, the steps.

    >>> Simulation(beta=0.5).lr
    0.1
    """

    shape: tuple[int, int] = (8, 32)  # number of rows, and elements per row (at least 2)
    lr: float = 0.1
    beta: float = 0.9  # momentum, or the decay rate of Adam's first moment, in [0, 1)
    decay: float = 0.01  # as the optimizers take it: lr x decay per step
    wd_ratio: WdRatio = 0.1  # share of the decay that acts on a projected row, or "matched"
    projection: Projection = "auto"  # "auto" projects by row here, "weight" the whole weight
    steps: int = 30
    seed: int = 0  # of the weights and the losses


DEFAULT = Simulation()


def sgdp(weight: Tensor, s: Simulation) -> Optimizer:
    """SGDP with the options of the simulation; eps is 0, so that the projection is exact."""
    return SGDP([weight], s.lr, s.beta, **_projected_options(s))


def adamp(weight: Tensor, s: Simulation) -> Optimizer:
    """AdamP with the options of the simulation; eps is 0, so that the projection is exact."""
    return AdamP([weight], s.lr, (s.beta, BETA2), **_projected_options(s))


def _projected_options(s: Simulation) -> dict[str, Any]:
    options = {"wd_ratio": s.wd_ratio, "projection": s.projection}
    return {"weight_decay": s.decay, "eps": 0, **options}


def adamw(weight: Tensor, s: Simulation) -> Optimizer:
    """AdamW with the options of the simulation."""
    return AdamW([weight], s.lr, (s.beta, BETA2), eps=0, weight_decay=s.decay)


class Step(NamedTuple):
    """A step that has been taken."""

    before: Tensor  # the weight before the step [rows, fan]
    weight: Tensor  # the optimizer's parameter, after the step [rows, fan]
    grad: Tensor  # [rows, fan]
    optimizer: Optimizer


def random_weight(simulation: Simulation) -> tuple[Tensor, Draw]:
    """A random weight [rows, fan], and a function that draws more tensors of its shape.

    >>> weight, draw = random_weight(DEFAULT)
    >>> weight.shape == draw().shape == torch.Size(DEFAULT.shape)
    True
    """
    generator = torch.Generator().manual_seed(simulation.seed)

    def draw() -> Tensor:
        return torch.randn(simulation.shape, dtype=torch.float64, device="cpu", generator=generator)

    return draw().requires_grad_(), draw


def take_steps(build: Build, simulation: Simulation) -> Iterator[Step]:
    """Take the steps of a simulation, each on a new loss.

    >>> step = next(take_steps(lambda weight, s: torch.optim.SGD([weight], s.lr), DEFAULT))
    >>> torch.allclose(square(step.weight), square(step.before) + 0.01 * square(step.grad))
    True
    """
    weight, draw = random_weight(simulation)
    optimizer = build(weight, simulation)
    for _ in range(simulation.steps):
        before = weight.detach().clone()
        optimizer.zero_grad()
        (draw() * normalize(weight, dim=1)).sum().backward()
        optimizer.step()
        assert weight.grad is not None
        yield Step(before, weight, weight.grad, optimizer)


def square(rows: Tensor) -> Tensor:
    """Squared norms [rows] of rows [rows, fan].

    >>> square(torch.tensor([[3.0, 4.0]]))
    tensor([25.])
    """
    return rows.detach().square().sum(1)


def tangent(rows: Tensor, of: Tensor) -> Tensor:
    """Rows [rows, fan] without their components along the rows `of`.

    >>> tangent(torch.tensor([[3.0, 4.0]]), of=torch.tensor([[0.0, 2.0]]))
    tensor([[3., 0.]])
    """
    unit = normalize(of, dim=1)
    return rows - (rows * unit).sum(1, keepdim=True) * unit


def angle_rad(rows: Tensor, others: Tensor) -> Tensor:
    """Angles [rows] between the rows of two tensors, accurate for small and large angles.

    >>> angle_rad(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 3.0]]))
    tensor([0.7854])
    """
    along = (others * normalize(rows, dim=1)).sum(1)
    return torch.atan2(tangent(others, of=rows).norm(dim=1), along)


def check_choice(argument: str, value: str, choices: Iterable[str]) -> None:
    """Raise a ValueError that names the choices, unless `value` is one of them.

    >>> check_choice("rule", "AdmP", ["SGDP", "AdamP"])
    Traceback (most recent call last):
    ValueError: rule must be 'SGDP' or 'AdamP', got 'AdmP'
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{argument} must be {' or '.join(map(repr, choices))}, got {value!r}")


def worst_case(
    name: str,
    source: str,
    cases: list[tuple[Tensor, Tensor]],
    bounds: list[Tensor] | None = None,
) -> Lemma:
    """The lemma with the largest error among pairs of claimed and measured values [rows].

    It is exact unless there are `bounds` [rows], the largest error of each case. A case that
    exceeds its bound, or a measured value that is NaN, counts as the largest error.

    >>> cases = [(torch.tensor([4.0, 5.0]), torch.tensor([4.0, 7.5]))]
    >>> worst_case("sums", "arithmetic", cases)[2:]
    (5.0, 7.5, 0.5, True, None)
    """
    claimed, measured = (torch.cat(values) for values in zip(*cases, strict=True))
    error = (measured - claimed).abs() / torch.where(claimed == 0, 1, claimed.abs())
    limits = torch.cat(bounds) if bounds else torch.full_like(error, torch.inf)
    fails = ~(error < limits + EXACT)  # also if NaN
    worst = error.nan_to_num(torch.inf).where(~fails, torch.inf).argmax()
    figures = (float(values[worst]) for values in (claimed, measured, error))
    bound = float(limits[worst]) if bounds else None
    return Lemma(name, source, *figures, exact=not bounds, bound=bound)
