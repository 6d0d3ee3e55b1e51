"""The commands `tangential toy` and `tangential lemmas`."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from tangential_lab.errors import check_file, check_folder
from tangential_lab.terminal import fitting
from tangential_lab.theory.claims import CLOSE, EXACT, Lemma
from tangential_lab.theory.lemmas import lemmas as claims
from tangential_lab.theory.pictures import draw, files
from tangential_lab.theory.runs import MOMENTUM, runs, table


def _fractions(_: Any, values: list[float] | None) -> None:
    for value in values or []:
        if not 0 <= value < 1:
            raise ValueError(f"momentum is {value}, allowed is a number in [0, 1).")


def toy(
    problem: Literal["2d", "3d"],
    /,
    *,
    momentum: Annotated[
        list[float] | None,
        Parameter(validator=_fractions, consume_multiple=True, negative=()),
    ] = None,
    out: Path = Path("runs/toy"),
) -> None:
    """Show the slowdown on a problem that one can see: a table, a figure, an animation.

    Args:
        problem: "2d", a cosine in the plane, or "3d", Rosenbrock's valley on the sphere.
        momentum: A row of panels each; by default .9, .95 and .99 for 2d, .9 for 3d.
        out: Folder for the files: PNG and SVG, for 2d a GIF too.
    """
    console = Console()
    import_module("matplotlib")  # before any work
    check_folder(out)
    for path in files(problem, out):
        check_file(path)
    done = runs(problem, dict.fromkeys(momentum or MOMENTUM[problem]))
    console.print(table(problem, done, console.width))
    for path in draw(problem, done, out):
        console.print(
            str(path.resolve()), style="dim", soft_wrap=True, highlight=False, markup=False
        )


def lemmas() -> None:
    """Measure what the paper claims, and what follows from it, on steps of real optimizers.

    Exact claims must hold to 1e-12, equilibria to 3 %; the exit code is 1 where one does not.
    """
    console = Console()
    with console.status("stepping ..."):
        found = list(claims())
    console.print(fitting([_wide(found), _narrow(found)], console.width))
    failed = [lemma.name for lemma in found if not lemma.holds]
    for name in failed:
        console.print(f"Does not hold: {name}", highlight=False, soft_wrap=True)
    sys.exit(1 if failed else 0)


TITLE = "Claims, each at its worst among all rows and steps"


def _wide(found: list[Lemma]) -> Table:
    result = Table(title=TITLE, title_justify="left")
    for heading in ("claim", "source"):
        result.add_column(heading)
    for heading in ("claimed", "measured", "error", "allowed", ""):
        result.add_column(heading, justify="right")
    for lemma in found:
        result.add_row(*_cells(lemma))
    return result


def _narrow(found: list[Lemma]) -> Table:
    result = Table(title=TITLE, title_justify="left")
    result.add_column("claim")
    for heading in ("claimed,\nmeasured", "error,\nallowed", ""):
        result.add_column(heading, justify="right", no_wrap=True)
    for lemma in found:
        name, source, claimed, measured, error, allowed, holds = _cells(lemma)
        claim = f"{name} ({source})"
        result.add_row(claim, f"{claimed}\n{measured}", f"{error}\n{allowed}", holds)
    return result


def _cells(lemma: Lemma) -> tuple[str, ...]:
    digits = ".12g" if lemma.exact else ".5f"
    return (
        lemma.name,
        lemma.source,
        f"{lemma.claimed:{digits}}",
        f"{lemma.measured:{digits if lemma.claimed else '.1e'}}",
        f"{lemma.error:.1e}" if lemma.exact else f"{100 * lemma.error:.2f} %",
        f"{EXACT:g}" if lemma.exact else f"{100 * CLOSE:g} %",
        "holds" if lemma.holds else "[red]fails[/red]",
    )
