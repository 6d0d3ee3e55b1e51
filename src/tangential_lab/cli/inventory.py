"""The commands `tangential list` and `tangential info`: tasks, optimizers, backends."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.backends import described
from tangential_lab import experiments
from tangential_lab.training import OPTIMIZERS


def list_() -> None:
    """List the tasks with their options, and the optimizers."""
    tasks = []
    for name in experiments.NAMES:
        tasks.append((name, experiments.about(name)))
        options = ", ".join(map(str, experiments.options(name).values()))
        tasks.append(("", f"[dim]--set {escape(options)}[/]"))
    _print("tasks", tasks)
    _print("optimizers", ((name, entry.about) for name, entry in OPTIMIZERS.items()))


def _print(title: str, rows: Iterable[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def info() -> None:
    """Show the available backends, and why others are missing."""
    Console().print(described(), highlight=False, soft_wrap=True)
