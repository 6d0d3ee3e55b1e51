"""The toy problems under the optimizers that they tell apart: runs and their tables."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.table import Table
from torch import Tensor
from torch.optim import SGD, Optimizer

from tangential import SGDP
from tangential.lab.rivals import RIVALS
from tangential.toys import OPTIMUM_3D, Path, chart, cosine_2d, rosenbrock_3d

STEPS_SHOWN = {"2d": (50, 499), "3d": (0, 10, 25, 50, 100, 150, 200)}
# read off the paper's own figure: norms at these steps, and the distance to the optimum at last
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


class Run(NamedTuple):
    """What a contestant did, at one momentum."""

    name: str
    momentum: float
    path: Path

    @property
    def distance(self) -> float:
        """From the end of a 3D path to the optimum, on the chart."""
        psi, phi = chart(self.path.weights[-1])
        return math.dist((float(psi), float(phi)), OPTIMUM_3D)

    @property
    def published(self) -> tuple[float, ...]:
        """What the paper's figure has of a 3D path, or nothing."""
        return PUBLISHED_3D.get(self.name, ()) if self.momentum == PUBLISHED_MOMENTUM else ()


PLAIN, DECAYED, BUFFER = "#999999", "#cc79a7", "#009e73"  # of the same palette as the rivals

CONTESTANTS = {
    "2d": {
        "SGD": Contestant(PLAIN, False, lambda w, _: SGD(w, 0.01)),
        "SGD + momentum": Contestant(
            RIVALS["sgd"].colour, False, lambda w, momentum: SGD(w, 0.01, momentum)
        ),
        "SGDP": Contestant(
            RIVALS["sgdp"].colour, False, lambda w, momentum: SGDP(w, 0.01, momentum)
        ),
        "SGDP, published buffer": Contestant(
            BUFFER, True, lambda w, momentum: SGDP(w, 0.01, momentum, project_buffer=True)
        ),
    },
    "3d": {
        "SGD + momentum": Contestant(
            RIVALS["sgd"].colour, False, lambda w, momentum: SGD(w, 0.0549, momentum)
        ),
        "SGD + momentum, decay": Contestant(
            DECAYED, False, lambda w, momentum: SGD(w, 0.0704, momentum, weight_decay=0.05)
        ),
        "SGDP": Contestant(
            RIVALS["sgdp"].colour, False, lambda w, momentum: SGDP(w, 0.0438, momentum)
        ),
        "SGDP, published buffer": Contestant(
            BUFFER, True, lambda w, momentum: SGDP(w, 0.0438, momentum, project_buffer=True)
        ),
    },
}
PROBLEMS = {"2d": cosine_2d, "3d": rosenbrock_3d}
MOMENTUM = {"2d": (0.9, 0.95, 0.99), "3d": (0.9,)}


def runs(problem: str, momentum: Iterable[float]) -> list[Run]:
    """Every contestant on a problem, "2d" or "3d", at each momentum.

    >>> [f"{run.name} {run.path.norms[-1]:.2f}" for run in runs("2d", [0.9])][:3]
    ['SGD 1.02', 'SGD + momentum 2.93', 'SGDP 1.12']
    """
    return [
        Run(name, m, PROBLEMS[problem](lambda w, one=one, m=m: one.build(w, m)))
        for m in momentum
        for name, one in CONTESTANTS[problem].items()
    ]


def table(problem: str, done: list[Run]) -> Table:
    """What is printed of the runs of a problem."""
    return _table_2d(done) if problem == "2d" else _table_3d(done)


def _table_2d(done: list[Run]) -> Table:
    title = "Loss before step t / norm of the weight after it"
    result = Table(title=title, title_justify="left")
    for heading in ("momentum", "t", *CONTESTANTS["2d"]):
        result.add_column(heading, justify="right")
    for momentum in dict.fromkeys(run.momentum for run in done):
        paths = [run.path for run in done if run.momentum == momentum]
        for t in STEPS_SHOWN["2d"]:
            cells = (f"{path.losses[t]:.4f} / {path.norms[t + 1]:.2f}" for path in paths)
            result.add_row(f"{momentum:g}", str(t), *cells)
        result.add_section()
    return result


def _table_3d(done: list[Run]) -> Table:
    result = Table(title="Norm of the weight after t steps", title_justify="left")
    result.add_column("momentum", justify="right")
    result.add_column("optimizer")
    for heading in (*(f"t = {t}" for t in STEPS_SHOWN["3d"]), "to optimum"):
        result.add_column(heading, justify="right")
    for run in done:
        figures = (*run.path.norms[[*STEPS_SHOWN["3d"]]], run.distance)
        result.add_row(f"{run.momentum:g}", run.name, *(f"{x:.3f}" for x in figures))
        if published := run.published:
            result.add_row("", "  paper's figure", *(f"{x:.3f}" for x in published), style="dim")
    return result
