"""The paper's 3D paths, compared with ours by number where the problem allows it."""

from typing import NamedTuple

import torch
from torch import Tensor

from tangential_lab.theory.toys import STEPS_SHOWN, ToyRun, chart, rosenbrock_3d

COMPARED = 50  # steps up to which norms can be compared by number
LR_OFFSETS = (-4e-5, -2e-5, 2e-5, 4e-5)  # the learning rates were recovered to 4 decimals


class Comparison(NamedTuple):
    """A 3D path and the paper's; and paths whose learning rates round to the same digits.

    Distances are those on the chart.
    """

    name: str
    difference: float  # of the norms up to step 50: the largest, relative
    distance: float  # from the end to the optimum
    published_distance: float
    nearby_distances: tuple[float, ...]  # of paths with learning rates that round to the same
    apart: Tensor  # largest distance of these paths from the path, after each step [steps + 1]


def compare_with_paper(run: ToyRun) -> Comparison:
    """Compare a 3D path with the paper's, and with paths that the paper's figure cannot exclude.

    Raises:
        ValueError: the paper has no such path.
    """
    if not run.published:
        raise ValueError(f"the paper has no path of {run.name} at momentum {run.momentum:g}")
    *norms, published_distance = run.published
    paper = dict(zip(STEPS_SHOWN["3d"], norms, strict=True))
    differences = [abs(float(run.path.norms[t]) / paper[t] - 1) for t in paper if t <= COMPARED]
    optimizer, paths = run.optimizer, []
    for offset in LR_OFFSETS:
        lr = optimizer.lr + offset
        paths.append(rosenbrock_3d(lambda w, lr=lr: optimizer.build(w, lr, run.momentum)))
    charted, *others = (torch.stack(chart(path.weights), -1) for path in (run.path, *paths))
    apart = torch.stack([(other - charted).norm(dim=1) for other in others]).amax(0)
    distances = tuple(path.to_optimum for path in paths)
    return Comparison(
        run.name, max(differences), run.path.to_optimum, published_distance, distances, apart
    )
