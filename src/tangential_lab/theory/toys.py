"""Small problems in two and three dimensions that show the slowdown, and runs on them."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tangential import SGDP
from tangential_lab.training import OPTIMIZERS

Problem = Literal["2d", "3d"]
Build = Callable[[list[Tensor]], Optimizer]

STEPS_2D = 500
STEPS_3D = 200
CHART_SCALE = 1.5  # chart coordinates per radian
START_3D = (-2.0, 2.0)
OPTIMUM_3D = (1.0, 1.0)
STEPS_SHOWN = {"2d": (50, 499), "3d": (0, 10, 25, 50, 100, 150, 200)}
MOMENTUM: dict[Problem, tuple[float, ...]] = {"2d": (0.9, 0.95, 0.99), "3d": (0.9,)}
# read off the paper's figure: norms after these steps, and the final distance to the optimum
PUBLISHED_MOMENTUM = 0.9
PUBLISHED_3D = {
    "SGD + momentum": (1, 1.233, 1.893, 2.392, 3.085, 3.154, 3.162, 0.255),
    "SGD + momentum, decay": (1, 1.283, 2.09, 2.477, 1.532, 1.011, 0.836, 0.117),
    "SGDP, published buffer": (1, 1.016, 1.036, 1.081, 1.115, 1.119, 1.121, 0.137),
}


class ToyPath(NamedTuple):
    """The path of an optimizer: weights [steps + 1, 2 or 3], and losses before each step [steps].

    >>> ToyPath(torch.tensor([[3.0, 4.0]]), torch.tensor([])).norms
    tensor([5.])
    """

    weights: Tensor
    losses: Tensor

    @property
    def norms(self) -> Tensor:
        """Norm of the weight before every step and after the last [steps + 1]."""
        return self.weights.norm(dim=1)

    @property
    def to_optimum(self) -> float:
        """Distance from the end of a 3D path to the optimum, on the chart."""
        psi, phi = chart(self.weights[-1])
        return math.dist((float(psi), float(phi)), OPTIMUM_3D)


def cosine_2d(optimizer: Build, steps: int = STEPS_2D) -> ToyPath:
    """Minimise (1 - cos(w, w*))^2 in the plane, w* = (0, -1), from (sin .001, cos .001).

    The loss depends only on the direction of w. Source: figure 3 of Heo et al., ICLR 2021; the
    start and the learning rate of .01 were recovered from its animation.

    Args:
        optimizer: Builds the optimizer from a list of one weight [1, 2], float64.
        steps: Number of steps; ValueError if it is less than 1.

    >>> path = cosine_2d(lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9))
    >>> f"{path.losses[50]:.4f} {path.norms[51]:.2f} {path.norms[500]:.2f}"
    '1.7578 1.42 2.93'
    """
    start = [[math.sin(0.001), math.cos(0.001)]]
    weight = torch.tensor(start, dtype=torch.float64, device="cpu", requires_grad=True)
    target = torch.tensor([0.0, -1.0], dtype=torch.float64, device="cpu")

    def loss() -> Tensor:
        return (1 - torch.cosine_similarity(weight, target).squeeze()) ** 2

    return _follow(weight, optimizer([weight]), loss, steps)


def rosenbrock_3d(optimizer: Build, steps: int = STEPS_3D) -> ToyPath:
    """Minimise Rosenbrock's valley, mapped to the sphere by `chart`, from chart point (-2, 2).

    The gradient is scaled to length 1, and the learning rate falls linearly to 0. Source: the
    3D toy of Heo et al., ICLR 2021; all constants were recovered from its figure. The problem is
    chaotic: after some 30 steps, paths that differ only by rounding drift apart.

    Args:
        optimizer: Builds the optimizer from a list of one weight [1, 3], float64. Decay that it
            adds to the gradient is added after the scaling to length 1.
        steps: Number of steps; ValueError if it is less than 1.

    >>> path = rosenbrock_3d(lambda weights: torch.optim.SGD(weights, lr=0.0549, momentum=0.9))
    >>> f"{path.norms[10]:.3f}"
    '1.233'
    """
    longitude, latitude = (x / CHART_SCALE for x in START_3D)
    flat = math.cos(latitude)
    start = [[flat * math.cos(longitude), flat * math.sin(longitude), math.sin(latitude)]]
    weight = torch.tensor(start, dtype=torch.float64, device="cpu", requires_grad=True)
    weight.register_hook(lambda grad: grad / grad.norm())
    stepper = optimizer([weight])
    schedule = LambdaLR(stepper, lambda step: 1 - step / max(steps, 1))
    stepper.register_step_post_hook(lambda *_: schedule.step())
    return _follow(weight, stepper, lambda: rosenbrock(*chart(weight)).squeeze(), steps)


def chart(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Directions on the unrolled sphere: 1.5 times longitude and latitude, in radians.

    Args:
        weights: [..., 3], of any norm but 0.

    Returns:
        psi [...] in [-1.5 pi, 1.5 pi], phi [...] in [-.75 pi, .75 pi].

    >>> psi, phi = chart(torch.tensor([0.0, 5.0, 0.0]))
    >>> f"{psi:.4f} {phi:.4f}"
    '2.3562 0.0000'
    """
    x, y, z = weights.unbind(-1)
    psi = CHART_SCALE * torch.atan2(y, x)
    return psi, CHART_SCALE * torch.asin(z / weights.norm(dim=-1))


def rosenbrock(psi: Tensor, phi: Tensor) -> Tensor:
    """Rosenbrock's valley (1 - psi)^2 + 300 (phi - psi^2)^2 along phi = psi^2, 0 at (1, 1).

    >>> rosenbrock(torch.tensor(-2.0), torch.tensor(2.0))
    tensor(1209.)
    """
    return (1 - psi) ** 2 + 300 * (phi - psi**2) ** 2


def _follow(weight: Tensor, stepper: Optimizer, loss: Callable[[], Tensor], steps: int) -> ToyPath:
    if steps < 1:
        raise ValueError(f"steps must be an integer >= 1, got {steps}")
    weights, losses = [weight.detach()[0].clone()], []
    for _ in range(steps):
        stepper.zero_grad()
        value = loss()
        value.backward()
        stepper.step()
        weights.append(weight.detach()[0].clone())
        losses.append(value.detach())
    return ToyPath(torch.stack(weights), torch.stack(losses))


class ToyOptimizer(NamedTuple):
    """An optimizer on a toy problem, and how its line is drawn."""

    colour: str
    dashed: bool
    lr: float
    build: Callable[[list[Tensor], float, float], Optimizer]  # from the weight, lr and momentum


class ToyRun(NamedTuple):
    """The path of an optimizer at one momentum."""

    name: str
    optimizer: ToyOptimizer
    momentum: float
    path: ToyPath

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's values for a 3D path; () if it has none."""
        return PUBLISHED_3D.get(self.name, ()) if self.momentum == PUBLISHED_MOMENTUM else ()


def _sgd(colour: str, lr: float, decay: float = 0.0) -> ToyOptimizer:
    return ToyOptimizer(colour, False, lr, lambda w, lr, m: SGD(w, lr, m, weight_decay=decay))


def _sgdp(lr: float) -> dict[str, ToyOptimizer]:
    colour, published = OPTIMIZERS["sgdp"].colour, OPTIMIZERS["sgdp-published"].colour
    with_buffer = partial(SGDP, project_buffer=True)
    return {
        "SGDP": ToyOptimizer(colour, False, lr, SGDP),
        "SGDP, published buffer": ToyOptimizer(published, True, lr, with_buffer),
    }


TOY_OPTIMIZERS: dict[Problem, dict[str, ToyOptimizer]] = {
    "2d": {
        "SGD": ToyOptimizer(OPTIMIZERS["adam"].colour, False, 0.01, lambda w, lr, _: SGD(w, lr)),
        "SGD + momentum": _sgd(OPTIMIZERS["sgd"].colour, 0.01),
        **_sgdp(0.01),
    },
    "3d": {
        "SGD + momentum": _sgd(OPTIMIZERS["sgd"].colour, 0.0549),
        "SGD + momentum, decay": _sgd("#c0699f", 0.0704, 0.05),
        **_sgdp(0.0438),
    },
}


def run_toy(problem: Problem, momentum: Iterable[float]) -> list[ToyRun]:
    """Run every optimizer on a problem at each momentum.

    >>> [f"{run.name} {run.path.norms[-1]:.2f}" for run in run_toy("2d", [0.9])][:3]
    ['SGD 1.02', 'SGD + momentum 2.93', 'SGDP 1.12']
    """
    minimise = {"2d": cosine_2d, "3d": rosenbrock_3d}[problem]
    return [
        ToyRun(name, optimizer, m, minimise(lambda w, o=optimizer, m=m: o.build(w, o.lr, m)))
        for m in momentum
        for name, optimizer in TOY_OPTIMIZERS[problem].items()
    ]
