"""The command `tangential diagnose`: verdicts on a monitored run, and two runs side by side."""

import warnings
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.monitor import Run, diagnose, fell, figures, fold, load, percent
from tangential_lab.reports import unsigned_zero
from tangential_lab.terminal import wrapped

plain = "{:.3g}".format
FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "lr": ("lr", plain),
    "norm": ("norm", plain),
    "norm_growth": ("norm's growth", fold),
    "memory_share": ("of it momentum's memory", percent),
    "effective_step": ("effective step", plain),
    "slowdown": ("effective step per lr", fell),
    "angle_rad": ("angle per step, rad", plain),
    "equilibrium_rad": ("angle of equilibrium, rad", plain),
    "angle_over_equilibrium": ("angle over that of equilibrium", plain),
    "fastest_over_slowest": ("fastest weight over slowest", fold),
    "all_norm": ("norm, mean of all matrices", plain),
    "all_angle_rad": ("angle per step, mean of all matrices, rad", plain),
    "frozen_norms": ("frozen normalisations", "{:.0f}".format),
}


def command(run: Path, other: Path | None = None, /) -> None:
    """Say what is wrong with how the weights of a run moved, or of two runs, side by side.

    Args:
        run: What a monitor has logged: a CSV file or a folder of Parquet files.
        other: Another run to compare it with.
    """
    console = Console()
    runs = [_loaded(path, console) for path in (run, other) if path]
    console.print(table(runs))
    for one in runs:
        console.print(f"[bold]{escape(one.name)}[/bold]", highlight=False, soft_wrap=True)
        for verdict in diagnose(one):
            _say(verdict.text, console, indent="  ")


def _loaded(path: Path, console: Console) -> Run:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = load(path)
    for warning in told:
        _say(f"Note: {warning.message}", console)
    return run


def _say(text: str, console: Console, indent: str = "") -> None:
    """Print text, wrapped at words."""
    lines = wrapped(text, console.width - len(indent)).splitlines()
    for line in lines:
        console.print(f"{indent}{line}", highlight=False, markup=False, soft_wrap=True)


def table(runs: list[Run]) -> Table:
    """A column for every run; what is not known is left empty."""
    result = Table(title="Scale-invariant weights, medians over the last tenth of logs")
    result.title_justify = "left"
    result.add_column("")
    for run in runs:
        result.add_column(escape(run.name), justify="right", overflow="fold")
    result.add_row("steps", *(f"{run.length:,}" for run in runs))
    result.add_row("logs", *(f"{len(run.steps):,}" for run in runs))
    invariant = (f"{len(run.trends):,} of {len(run.weights):,}" for run in runs)
    result.add_row("weights: scale-invariant of all", *invariant)
    known = [figures(run) for run in runs]
    for key, (words, say) in FIGURES.items():
        values = [one[key] for one in known]
        result.add_row(words, *(unsigned_zero(say(x)) if x == x else "" for x in values))
    return result
