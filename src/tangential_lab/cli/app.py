"""The command line."""

from importlib.metadata import version

from cyclopts import App, CycloptsError

from tangential_lab.cli import audit, diagnose
from tangential_lab.cli.inventory import info, list_
from tangential_lab.cli.lemmas import lemmas
from tangential_lab.cli.study.compare import compare
from tangential_lab.cli.study.report import report
from tangential_lab.cli.study.watch import watch
from tangential_lab.cli.study.worker import worker
from tangential_lab.cli.toy import toy
from tangential_lab.errors import exit_with, one_line

app = App(
    name="tangential",
    help="Optimizers that move where it matters: a laboratory for AdamP and SGDP.",
    version=version("tangential"),
    suppress_keyboard_interrupt=False,
)


def run(arguments: list[str]) -> None:
    """Run a command; a wrong argument is one line on standard error."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        exit_with(f"Error: {one_line(error)}", 2)


for command in (compare, worker, report, watch, list_, toy, lemmas, info):
    app.command(command)
app.command(audit.command, name="audit")
app.command(diagnose.command, name="diagnose")
