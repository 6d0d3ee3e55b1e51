"""Problems small enough to see the slowdown with the naked eye."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

STEPS_2D = 500


class Path(NamedTuple):
    """What an optimizer did: weights [steps + 1, 2], and the loss before every step [steps]."""

    weights: Tensor
    losses: Tensor

    @property
    def norms(self) -> Tensor:
        """Norm of the weight before every step and after the last [steps + 1]."""
        return self.weights.norm(dim=1)


def cosine_2d(optimizer: Callable[[list[Tensor]], Optimizer], steps: int = STEPS_2D) -> Path:
    """Minimise (1 - cos(w, w*))^2 in the plane, w* = (0, -1), from (sin .001, cos .001).

    The loss sees only the direction of w. Source: figure 3 of Heo et al., ICLR 2021; the start
    and the learning rate of .01 were recovered from its animation.

    Args:
        optimizer: Builds the optimizer from a list of one weight [1, 2], float64.
        steps: Number of steps.

    >>> path = cosine_2d(lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9))
    >>> f"{path.losses[50]:.4f} {path.norms[51]:.2f} {path.norms[500]:.2f}"
    '1.7578 1.42 2.93'
    """
    start = [[math.sin(0.001), math.cos(0.001)]]
    weight = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.0, -1.0], dtype=torch.float64)
    stepper = optimizer([weight])
    weights, losses = [weight.detach()[0].clone()], []
    for _ in range(steps):
        stepper.zero_grad()
        loss = (1 - torch.cosine_similarity(weight, target).squeeze()) ** 2
        loss.backward()
        stepper.step()
        weights.append(weight.detach()[0].clone())
        losses.append(loss.detach())
    return Path(torch.stack(weights), torch.stack(losses))
