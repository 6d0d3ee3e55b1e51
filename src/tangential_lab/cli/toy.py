"""The command `tangential toy`."""

from collections.abc import Callable
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from tangential_lab.cli.parameters import Many
from tangential_lab.cli.toy_gate import print_gate
from tangential_lab.files import check_writable, make_writable_folder
from tangential_lab.terminal import print_paths, print_table, say
from tangential_lab.theory import (
    COMPARED,
    LR_OFFSETS,
    MOMENTUM,
    STEPS_SHOWN,
    Comparison,
    Problem,
    ToyRun,
    compare_with_paper,
    draw_toy,
    run_toy,
    toy_files,
)
from tangential_lab.theory.gate import EXAMPLES, chance_rates, draw_gate, examine, gate_files

Momentum = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]


def toy(
    problem: Literal[Problem, "gate"],
    /,
    *,
    momentum: Annotated[tuple[Momentum, ...] | None, Many, Parameter(show_default=False)] = None,
    out: Path = Path("runs/toy"),
) -> None:
    """Show the slowdown in 2D or 3D, or what the gate does: tables, a figure and an animation.

    Args:
        problem: "2d", a cosine in the plane; "3d", Rosenbrock's valley on the sphere; "gate", what
            the gate's threshold delta does to random weights and to those of small modules.
        momentum: One row of panels per value; by default .9, .95 and .99 for 2d, .9 for 3d. The
            gate has none.
        out: Folder for the files: PNG and SVG, and for 2d a GIF.
    """
    if problem == "gate" and momentum is not None:
        raise ValueError("--momentum is for 2d and 3d: leave it out for gate")
    console = Console()
    import_module("matplotlib")  # before any work
    make_writable_folder(out)
    for path in gate_files(out) if problem == "gate" else toy_files(problem, out):
        check_writable(path)
    if problem == "gate":
        _show_gate(console, out)
        return
    runs = run_toy(problem, dict.fromkeys(momentum or MOMENTUM[problem]))
    tables = _tables_2d(runs) if problem == "2d" else _tables_3d(runs)
    print_table(console, *tables)
    if problem == "3d" and (published := [run for run in runs if run.published]):
        comparisons = list(map(compare_with_paper, published))
        print_table(
            console, *(_comparison_table(comparisons, between) for between in (" to ", "\nto "))
        )
        say(console, _why_ends_differ(comparisons))
    print_paths(console, draw_toy(problem, runs, out), style="dim")


def _show_gate(console: Console, out: Path) -> None:
    with console.status("taking steps ..."):
        rates, examined = chance_rates(), list(map(examine, EXAMPLES))
    print_gate(console, rates, examined)
    print_paths(console, draw_gate(rates, examined, out), style="dim")


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
    for some in (steps[1:5] + steps[6:], (10, 25, 50)):
        headings = (*(f"t = {t}" for t in some), "to\noptimum")
        tables.append(_table(title, "optimizer", *headings, names=1))
        _add_rows(tables[-1], runs, lambda run, some=some: _rows_3d(run, some))
    return tables


def _comparison_table(comparisons: list[Comparison], between: str) -> Table:
    """How far our norms are from the paper's at first, and all distances at the end."""
    title = f"Largest difference of norms to t = {COMPARED}; final distance to the optimum"
    headings = ("norms\ndiffer", "ours", "paper's", f"ours, lr\n± {max(LR_OFFSETS):.0e}")
    table = _table(title, "optimizer", *headings, names=1)
    for c in comparisons:
        nearby = f"{min(c.nearby_distances):.3f}{between}{max(c.nearby_distances):.3f}"
        distances = f"{c.distance:.3f}", f"{c.published_distance:.3f}"
        name = c.name.replace(", ", ",\n")
        table.add_row(name, f"{100 * c.difference:.1f} %", *distances, nearby)
    return table


def _why_ends_differ(comparisons: list[Comparison]) -> str:
    difference = max(c.difference for c in comparisons)
    early, late = (float(max(c.apart[t] for c in comparisons)) for t in (25, -1))
    nearby = [distance for c in comparisons for distance in c.nearby_distances]
    return (
        "Why the ends differ: the valley is chaotic past about 30 steps, so paths whose learning "
        "rates round to the same 4 decimals, which is all that is known of the paper's, are at "
        f"most {early:.3f} apart after 25 steps but up to {late:.2f} at the end, {min(nearby):.2f} "
        f"to {max(nearby):.2f} from the optimum: compare the first {COMPARED} steps by number "
        f"(our norms are within {100 * difference:.1f} % of the paper's), later ones by shape."
    )


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
    return [f"{x:.3f}" for x in (*run.path.norms[[*steps]], run.path.to_optimum)]


def _published_cells(run: ToyRun, steps: tuple[int, ...]) -> list[str]:
    *norms, distance = run.published
    at_step = dict(zip(STEPS_SHOWN["3d"], norms, strict=True))
    return [f"{x:.3f}" for x in (*(at_step[t] for t in steps), distance)]
