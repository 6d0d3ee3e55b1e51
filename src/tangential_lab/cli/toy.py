"""The command `tangential toy`."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from tangential_lab.cli.parameters import Many
from tangential_lab.files import check_writable, make_writable_folder
from tangential_lab.theory.pictures import draw, files
from tangential_lab.theory.runs import MOMENTUM, runs, table

Momentum = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]


def toy(
    problem: Literal["2d", "3d"],
    /,
    *,
    momentum: Annotated[tuple[Momentum, ...] | None, Many] = None,
    out: Path = Path("runs/toy"),
) -> None:
    """Show the slowdown on a problem that one can see: a table, a figure, an animation.

    Args:
        problem: "2d", a cosine in the plane, or "3d", Rosenbrock's valley on the sphere.
        momentum: One row of panels per value; by default .9, .95 and .99 for 2d, .9 for 3d.
        out: Folder for the files: PNG and SVG, and for 2d a GIF.
    """
    console = Console()
    import_module("matplotlib")  # before any work
    make_writable_folder(out)
    for path in files(problem, out):
        check_writable(path)
    done = runs(problem, dict.fromkeys(momentum or MOMENTUM[problem]))
    console.print(table(problem, done, console.width))
    for path in draw(problem, done, out):
        console.print(
            str(path.resolve()), style="dim", soft_wrap=True, highlight=False, markup=False
        )
