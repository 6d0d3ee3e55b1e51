"""Runs the toy problems with the optimizers that are compared on them."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from torch import Tensor
from torch.optim import SGD, Optimizer

from tangential import SGDP
from tangential_lab.theory.toys import OPTIMUM_3D, Path, chart, cosine_2d, rosenbrock_3d
from tangential_lab.training import OPTIMIZERS

Problem = Literal["2d", "3d"]

STEPS_SHOWN = {"2d": (50, 499), "3d": (0, 10, 25, 50, 100, 150, 200)}
# read off the paper's figure: norms after these steps, and the final distance to the optimum
PUBLISHED_MOMENTUM = 0.9
PUBLISHED_3D = {
    "SGD + momentum": (1, 1.233, 1.893, 2.392, 3.085, 3.154, 3.162, 0.255),
    "SGD + momentum, decay": (1, 1.283, 2.09, 2.477, 1.532, 1.011, 0.836, 0.117),
    "SGDP, published buffer": (1, 1.016, 1.036, 1.081, 1.115, 1.119, 1.121, 0.137),
}


class Contestant(NamedTuple):
    """An optimizer on a toy problem, and how its line is drawn."""

    colour: str
    dashed: bool
    build: Callable[[list[Tensor], float], Optimizer]


class ToyRun(NamedTuple):
    """The path of an optimizer at one momentum."""

    name: str
    momentum: float
    path: Path

    @property
    def distance(self) -> float:
        """Distance from the end of a 3D path to the optimum, on the chart."""
        psi, phi = chart(self.path.weights[-1])
        return math.dist((float(psi), float(phi)), OPTIMUM_3D)

    @property
    def published(self) -> tuple[float, ...]:
        """The paper's values for a 3D path; () if it has none."""
        return PUBLISHED_3D.get(self.name, ()) if self.momentum == PUBLISHED_MOMENTUM else ()


SGD_COLOUR, SGDP_COLOUR = OPTIMIZERS["sgd"].colour, OPTIMIZERS["sgdp"].colour
PLAIN, DECAYED, BUFFER = "#7f7f78", "#c0699f", "#00916a"  # of the palette of the optimizers


def _published_sgdp(weights: list[Tensor], lr: float, momentum: float) -> Optimizer:
    return SGDP(weights, lr, momentum, project_buffer=True)


CONTESTANTS: dict[Problem, dict[str, Contestant]] = {
    "2d": {
        "SGD": Contestant(PLAIN, False, lambda w, _: SGD(w, 0.01)),
        "SGD + momentum": Contestant(SGD_COLOUR, False, lambda w, m: SGD(w, 0.01, m)),
        "SGDP": Contestant(SGDP_COLOUR, False, lambda w, m: SGDP(w, 0.01, m)),
        "SGDP, published buffer": Contestant(
            BUFFER, True, lambda w, m: _published_sgdp(w, 0.01, m)
        ),
    },
    "3d": {
        "SGD + momentum": Contestant(SGD_COLOUR, False, lambda w, m: SGD(w, 0.0549, m)),
        "SGD + momentum, decay": Contestant(
            DECAYED, False, lambda w, m: SGD(w, 0.0704, m, weight_decay=0.05)
        ),
        "SGDP": Contestant(SGDP_COLOUR, False, lambda w, m: SGDP(w, 0.0438, m)),
        "SGDP, published buffer": Contestant(
            BUFFER, True, lambda w, m: _published_sgdp(w, 0.0438, m)
        ),
    },
}
TOYS = {"2d": cosine_2d, "3d": rosenbrock_3d}
MOMENTUM: dict[Problem, tuple[float, ...]] = {"2d": (0.9, 0.95, 0.99), "3d": (0.9,)}


def run_toy(problem: Problem, momentum: Iterable[float]) -> list[ToyRun]:
    """Run every optimizer on a problem at each momentum.

    >>> [f"{run.name} {run.path.norms[-1]:.2f}" for run in run_toy("2d", [0.9])][:3]
    ['SGD 1.02', 'SGD + momentum 2.93', 'SGDP 1.12']
    """
    return [
        ToyRun(name, m, TOYS[problem](lambda w, build=contestant.build, m=m: build(w, m)))
        for m in momentum
        for name, contestant in CONTESTANTS[problem].items()
    ]
