"""The command `tangential diagnose`: verdicts on a monitored run, and two runs side by side."""

import warnings
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.monitor import (
    Run,
    advice,
    compare,
    diagnose,
    fell,
    figures,
    grew,
    load,
    multiple,
    percent,
)
from tangential_lab.reports import unsigned_zero
from tangential_lab.terminal import print_table, say

plain = "{:.3g}".format
FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "lr": ("lr", plain),
    "norm": ("norm", plain),
    "norm_growth": ("norms", grew),
    "memory_share": ("share of norm growth from momentum", percent),
    "effective_step": ("effective step", plain),
    "slowdown": ("effective step per lr", fell),
    "angle_rad": ("angle per step, rad", plain),
    "equilibrium_rad": ("equilibrium angle, rad", plain),
    "angle_over_equilibrium": ("angle over equilibrium angle", plain),
    "fastest_over_slowest": ("fastest weight over slowest", multiple),
    "all_norm": ("norm, mean of all matrices", plain),
    "all_angle_rad": ("angle per step, mean of all matrices, rad", plain),
    "frozen_norms": ("frozen normalisations", "{:.0f}".format),
}


def command(run: Path, other: Path | None = None, /) -> None:
    """Show problems in the weight updates of a run and what to change, or compare two runs.

    Args:
        run: Log written by Monitor: a CSV file or a folder of Parquet files.
        other: Another run to compare it with.
    """
    console = Console()
    if other and other.resolve() == run.resolve():
        raise ValueError(f"other must be another run than the first, got {other} twice")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = [load(path) for path in (run, other) if path]
    for warning in caught:
        say(console, f"Note: {warning.message}")
    print_table(console, _table(runs))
    for loaded in runs:
        console.print(f"[bold]{escape(loaded.name)}[/bold]", highlight=False, soft_wrap=True)
        for verdict in diagnose(loaded):
            say(console, verdict.text, indent="  ")
            if change := advice(verdict, loaded):
                say(console, f"To change: {change}", indent="    ")
    if other:
        console.print("[bold]Compared[/bold]", highlight=False)
        texts = [difference.text for difference in compare(*runs)]
        for text in texts or ["No figure is known of both runs."]:
            say(console, text, indent="  ")


def _table(runs: list[Run]) -> Table:
    """One column per run; a cell is empty if its value is unknown."""
    title = "Scale-invariant weights, medians over the last tenth of logs"
    result = Table(title=title, title_justify="left")
    result.add_column("")
    stems = [Path(run.name).stem for run in runs]
    names = stems if len(set(stems)) == len(runs) else [run.name for run in runs]
    for name in names:
        result.add_column(escape(name), justify="right", overflow="fold")
    result.add_row("steps", *(f"{run.length:,}" for run in runs))
    result.add_row("logs", *(f"{len(run.steps):,}" for run in runs))
    invariant = (f"{len(run.trends):,} of {len(run.weights):,}" for run in runs)
    result.add_row("scale-invariant weights", *invariant)
    columns = [figures(run) for run in runs]
    for key, (label, shown) in FIGURES.items():
        values = [column[key] for column in columns]
        result.add_row(label, *(unsigned_zero(shown(x)) if x == x else "" for x in values))
    return result
