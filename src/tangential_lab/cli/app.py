"""The command line."""

from importlib.metadata import version

from cyclopts import App, CycloptsError
from rich.console import Console

from tangential.backends import described
from tangential_lab.cli import audit, compare, diagnose, show
from tangential_lab.errors import one_line, stop

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
        stop(f"Error: {one_line(error)}", 2)


app.command(compare.compare)
app.command(compare.worker)
app.command(compare.report_, name="report")
app.command(compare.watch)
app.command(compare.list_, name="list")


app.command(audit.command, name="audit")
app.command(diagnose.command, name="diagnose")
app.command(show.toy)
app.command(show.lemmas)


@app.command
def info() -> None:
    """Say which backends there are, and why not."""
    Console().print(described(), highlight=False, soft_wrap=True)
