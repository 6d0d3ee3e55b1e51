"""The command `tangential toy`."""

from collections.abc import Callable
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from tangential_lab.cli.parameters import Many
from tangential_lab.files import check_writable, make_writable_folder
from tangential_lab.terminal import first_that_fits, print_paths
from tangential_lab.theory import (
    MOMENTUM,
    STEPS_SHOWN,
    Problem,
    ToyRun,
    draw_toy,
    run_toy,
    toy_files,
)

Momentum = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]


def toy(
    problem: Problem,
    /,
    *,
    momentum: Annotated[tuple[Momentum, ...] | None, Many, Parameter(show_default=False)] = None,
    out: Path = Path("runs/toy"),
) -> None:
    """Show the slowdown on a problem in 2D or 3D, with a table, a figure and an animation.

    Args:
        problem: "2d", a cosine in the plane, or "3d", Rosenbrock's valley on the sphere.
        momentum: One row of panels per value; by default .9, .95 and .99 for 2d, .9 for 3d.
        out: Folder for the files: PNG and SVG, and for 2d a GIF.
    """
    console = Console()
    import_module("matplotlib")  # before any work
    make_writable_folder(out)
    for path in toy_files(problem, out):
        check_writable(path)
    runs = run_toy(problem, dict.fromkeys(momentum or MOMENTUM[problem]))
    tables = _tables_2d(runs) if problem == "2d" else _tables_3d(runs)
    console.print(first_that_fits(tables, console.width))
    print_paths(console, draw_toy(problem, runs, out), style="dim")


def _tables_2d(runs: list[ToyRun]) -> list[Table]:
    """A wide table, with one column per optimizer, and a narrow one, with one row each."""
    title, steps = "Loss before step t / norm of the weight after it", STEPS_SHOWN["2d"]
    names = dict.fromkeys(run.name for run in runs)
    wide = _table(title, "momentum", "t", *names, names=0)
    for momentum, group in groupby(runs, key=lambda run: run.momentum):
        some = list(group)
        for t in steps:
            wide.add_row(f"{momentum:g}", str(t), *(_cell_2d(run, t) for run in some))
        wide.add_section()
    narrow = _table(title, "optimizer", *(f"t = {t}" for t in steps), names=1)
    _add_rows(narrow, runs, lambda run: [[run.name, *(_cell_2d(run, t) for t in steps)]])
    return [wide, narrow]


def _cell_2d(run: ToyRun, t: int) -> str:
    loss = float(run.path.losses[t])
    shown = f"{loss:.4f}" if loss >= 0.001 or loss == 0 else f"{loss:.1e}"
    return f"{shown} / {run.path.norms[t + 1]:.2f}"


def _tables_3d(runs: list[ToyRun]) -> list[Table]:
    """A wide table, and two narrow ones with fewer steps."""
    title, steps = "Norm of the weight after t steps", STEPS_SHOWN["3d"]
    headings = (*(f"t = {t}" for t in steps), "to optimum")
    wide = _table(title, "momentum", "optimizer", *headings, names=2)
    for run in runs:
        wide.add_row(f"{run.momentum:g}", run.name, *_cells_3d(run, steps))
        if run.published:
            wide.add_row("", "  paper's figure", *_published_cells(run, steps), style="dim")
    tables = [wide]
    for some in (steps[1:5] + steps[6:], (10, 50, 200)):
        headings = (*(f"t = {t}" for t in some), "to\noptimum")
        tables.append(_table(title, "optimizer", *headings, names=1))
        _add_rows(tables[-1], runs, lambda run, some=some: _rows_3d(run, some))
    return tables


def _rows_3d(run: ToyRun, steps: tuple[int, ...]) -> list[list[str]]:
    rows = [[run.name.replace(", ", ",\n"), *_cells_3d(run, steps)]]
    return rows + ([["  paper's", *_published_cells(run, steps)]] if run.published else [])


def _add_rows(table: Table, runs: list[ToyRun], rows: Callable[[ToyRun], list[list[str]]]) -> None:
    """Add a section per momentum; the first row of a run is its own, a second one is dim."""
    for momentum, group in groupby(runs, key=lambda run: run.momentum):
        table.add_row(f"[dim]momentum {momentum:g}[/]")
        for run in group:
            for row, style in zip(rows(run), (None, "dim"), strict=False):
                table.add_row(*row, style=style)
        table.add_section()


def _table(title: str, *headings: str, names: int) -> Table:
    """A table without rows; the columns after the first `names` hold numbers."""
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        is_number = i >= names
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    return table


def _cells_3d(run: ToyRun, steps: tuple[int, ...]) -> list[str]:
    """The norm after each of these steps, and the final distance to the optimum."""
    return [f"{x:.3f}" for x in (*run.path.norms[[*steps]], run.distance)]


def _published_cells(run: ToyRun, steps: tuple[int, ...]) -> list[str]:
    *norms, distance = run.published
    at_step = dict(zip(STEPS_SHOWN["3d"], norms, strict=True))
    return [f"{x:.3f}" for x in (*(at_step[t] for t in steps), distance)]
