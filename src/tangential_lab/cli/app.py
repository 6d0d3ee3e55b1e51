"""The command line: all commands, with `list` and `info`."""

from collections.abc import Iterable
from importlib.metadata import version

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.backends import described
from tangential_lab import experiments
from tangential_lab.cli import audit, data, diagnose
from tangential_lab.cli.lemmas import lemmas
from tangential_lab.cli.plot import plot
from tangential_lab.cli.study.analyse import analyse
from tangential_lab.cli.study.compare import compare
from tangential_lab.cli.study.report import report
from tangential_lab.cli.study.watch import watch
from tangential_lab.cli.study.worker import worker
from tangential_lab.cli.toy import toy
from tangential_lab.errors import exit_with, one_line
from tangential_lab.terminal import say
from tangential_lab.training import OPTIMIZERS

app = App(
    name="tangential",
    help="Optimizers that move where it matters: a laboratory for AdamP and SGDP.",
    version=version("tangential"),
    suppress_keyboard_interrupt=False,
)


def run(arguments: list[str]) -> None:
    """Run a command; a wrong argument is one line on standard error."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        exit_with(f"Error: {one_line(error)}", 2)


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
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")  # an option may be longer than a narrow terminal
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def info() -> None:
    """Show the available backends, and why others are missing."""
    console = Console()
    for line in described().splitlines():
        say(console, line)


for command in (compare, analyse, worker, report, watch, plot, list_, toy, lemmas, info):
    app.command(command)
app.command(data.app)
app.command(audit.command, name="audit")
app.command(diagnose.command, name="diagnose")
