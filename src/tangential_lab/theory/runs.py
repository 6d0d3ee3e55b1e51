"""The toy problems under the optimizers that they tell apart: runs and their tables."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.table import Table
from torch import Tensor
from torch.optim import SGD, Optimizer

from tangential import SGDP
from tangential_lab.terminal import first_that_fits
from tangential_lab.theory.toys import OPTIMUM_3D, Path, chart, cosine_2d, rosenbrock_3d
from tangential_lab.training import OPTIMIZERS

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


PLAIN, DECAYED, BUFFER = "#7f7f78", "#c0699f", "#00916a"  # of the same palette as the optimizers

CONTESTANTS = {
    "2d": {
        "SGD": Contestant(PLAIN, False, lambda w, _: SGD(w, 0.01)),
        "SGD + momentum": Contestant(
            OPTIMIZERS["sgd"].colour, False, lambda w, momentum: SGD(w, 0.01, momentum)
        ),
        "SGDP": Contestant(
            OPTIMIZERS["sgdp"].colour, False, lambda w, momentum: SGDP(w, 0.01, momentum)
        ),
        "SGDP, published buffer": Contestant(
            BUFFER, True, lambda w, momentum: SGDP(w, 0.01, momentum, project_buffer=True)
        ),
    },
    "3d": {
        "SGD + momentum": Contestant(
            OPTIMIZERS["sgd"].colour, False, lambda w, momentum: SGD(w, 0.0549, momentum)
        ),
        "SGD + momentum, decay": Contestant(
            DECAYED, False, lambda w, momentum: SGD(w, 0.0704, momentum, weight_decay=0.05)
        ),
        "SGDP": Contestant(
            OPTIMIZERS["sgdp"].colour, False, lambda w, momentum: SGDP(w, 0.0438, momentum)
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


def table(problem: str, done: list[Run], width: int) -> Table:
    """What is printed of the runs of a problem, on a terminal of this width."""
    if problem == "2d":
        return first_that_fits([_wide_2d(done), _narrow_2d(done)], width)
    steps = STEPS_SHOWN["3d"]
    few = [_narrow_3d(done, shown) for shown in (steps[1:5] + steps[6:], (10, 50, 200))]
    return first_that_fits([_wide_3d(done), *few], width)


def _started(title: str, *headings: str, names: int) -> Table:
    """A table without rows; the columns after the first `names` hold numbers."""
    result = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        numeric = i >= names
        result.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return result


TITLES = {
    "2d": "Loss before step t / norm of the weight after it",
    "3d": "Norm of the weight after t steps",
}


def _wide_2d(done: list[Run]) -> Table:
    result = _started(TITLES["2d"], "momentum", "t", *CONTESTANTS["2d"], names=0)
    for momentum, some in _by_momentum(done).items():
        for t in STEPS_SHOWN["2d"]:
            result.add_row(f"{momentum:g}", str(t), *(_cell_2d(run, t) for run in some))
        result.add_section()
    return result


def _narrow_2d(done: list[Run]) -> Table:
    steps = STEPS_SHOWN["2d"]
    result = _started(TITLES["2d"], "optimizer", *(f"t = {t}" for t in steps), names=1)
    for momentum, some in _by_momentum(done).items():
        result.add_row(f"[dim]momentum {momentum:g}[/]")
        for run in some:
            result.add_row(run.name, *(_cell_2d(run, t) for t in steps))
        result.add_section()
    return result


def _by_momentum(done: list[Run]) -> dict[float, list[Run]]:
    return {m: [run for run in done if run.momentum == m] for m in (run.momentum for run in done)}


def _cell_2d(run: Run, t: int) -> str:
    loss = float(run.path.losses[t])
    shown = f"{loss:.4f}" if loss >= 0.001 or loss == 0 else f"{loss:.1e}"
    return f"{shown} / {run.path.norms[t + 1]:.2f}"


def _wide_3d(done: list[Run]) -> Table:
    headings = (*(f"t = {t}" for t in STEPS_SHOWN["3d"]), "to optimum")
    result = _started(TITLES["3d"], "momentum", "optimizer", *headings, names=2)
    for run in done:
        result.add_row(f"{run.momentum:g}", run.name, *_cells_3d(run, STEPS_SHOWN["3d"]))
        if run.published:
            shown = _cells_3d(run, STEPS_SHOWN["3d"], published=True)
            result.add_row("", "  paper's figure", *shown, style="dim")
    return result


def _narrow_3d(done: list[Run], steps: tuple[int, ...]) -> Table:
    headings = (*(f"t = {t}" for t in steps), "to\noptimum")
    result = _started(TITLES["3d"], "optimizer", *headings, names=1)
    for momentum, some in _by_momentum(done).items():
        result.add_row(f"[dim]momentum {momentum:g}[/]")
        for run in some:
            result.add_row(run.name.replace(", ", ",\n"), *_cells_3d(run, steps))
            if run.published:
                shown = _cells_3d(run, steps, published=True)
                result.add_row("  paper's", *shown, style="dim")
        result.add_section()
    return result


def _cells_3d(run: Run, steps: tuple[int, ...], *, published: bool = False) -> list[str]:
    """The norm at each step, and the distance to the optimum at last."""
    if published:
        norms = dict(zip(STEPS_SHOWN["3d"], run.published, strict=False))
        figures = [*(norms[t] for t in steps), run.published[-1]]
    else:
        figures = [*run.path.norms[[*steps]], run.distance]
    return [f"{x:.3f}" for x in figures]
