"""The command `tangential plot`: pictures and a page of monitored runs."""

import warnings
from pathlib import Path

from rich.console import Console

from tangential.monitor import Run, load
from tangential_lab.files import check_folder
from tangential_lab.reports import write_runs
from tangential_lab.terminal import print_paths, say


def plot(run: Path, /, *others: Path, out: Path = Path("plots")) -> None:
    """Draw how the weights of monitored runs move: norms, effective steps, angles, growth, layers.

    Args:
        run: Log written by Monitor: a CSV file or a folder of Parquet files.
        others: More runs, drawn over the first one.
        out: Folder for the page and its pictures, as PNG and SVG.
    """
    console = Console()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = _named([run, *others])
    for folder in (out, out / "figures"):  # before the figures are drawn, which takes seconds
        check_folder(folder)
    for warning in caught:
        say(console, f"Note: {warning.message}")
    print_paths(console, write_runs(runs, out))


def _named(paths: list[Path]) -> dict[str, Run]:
    """The runs by the names of their files, or by their paths if two files have one name."""
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"every run must be given once, got {' '.join(names)}")
    return {name: load(path) for name, path in zip(names, paths, strict=True)}
