"""Small problems in two and three dimensions that show the slowdown."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

STEPS_2D = 500
STEPS_3D = 200
CHART_SCALE = 1.5  # chart coordinates per radian
START_3D = (-2.0, 2.0)
OPTIMUM_3D = (1.0, 1.0)

Build = Callable[[list[Tensor]], Optimizer]


class Path(NamedTuple):
    """The path of an optimizer: weights [steps + 1, 2 or 3], and losses before each step [steps].

    >>> Path(torch.tensor([[3.0, 4.0]]), torch.tensor([])).norms
    tensor([5.])
    """

    weights: Tensor
    losses: Tensor

    @property
    def norms(self) -> Tensor:
        """Norm of the weight before every step and after the last [steps + 1]."""
        return self.weights.norm(dim=1)


def cosine_2d(optimizer: Build, steps: int = STEPS_2D) -> Path:
    """Minimise (1 - cos(w, w*))^2 in the plane, w* = (0, -1), from (sin .001, cos .001).

    The loss depends only on the direction of w. Source: figure 3 of Heo et al., ICLR 2021; the
    start and the learning rate of .01 were recovered from its animation.

    Args:
        optimizer: Builds the optimizer from a list of one weight [1, 2], float64.
        steps: Number of steps, at least 1.

    Raises:
        ValueError: steps is less than 1.

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


def rosenbrock_3d(optimizer: Build, steps: int = STEPS_3D) -> Path:
    """Minimise Rosenbrock's valley, mapped to the sphere by `chart`, from chart point (-2, 2).

    The gradient is scaled to length 1, and the learning rate falls linearly to 0. Source: the
    3D toy of Heo et al., ICLR 2021; all constants were recovered from its figure. The problem is
    chaotic: after some 30 steps, paths that differ only by rounding drift apart.

    Args:
        optimizer: Builds the optimizer from a list of one weight [1, 3], float64. Decay that it
            adds to the gradient is added after the scaling to length 1.
        steps: Number of steps, at least 1; the learning rate reaches 0 after them.

    Raises:
        ValueError: steps is less than 1.

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


def _follow(weight: Tensor, stepper: Optimizer, loss: Callable[[], Tensor], steps: int) -> Path:
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
    return Path(torch.stack(weights), torch.stack(losses))
