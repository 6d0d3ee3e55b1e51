"""The command line."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from rich.console import Console

from tangential.backends import described
from tangential_lab.cli import audit, compare, diagnose, show
from tangential_lab.cli.bench import bench
from tangential_lab.cli.timings import print_table, write_csv
from tangential_lab.cli.workloads import GATES, SHAPES
from tangential_lab.errors import check_file, one_line, stop
from tangential_lab.names import one_of

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


MOST_THREADS, MOST_ROUNDS = 1024, 1_000_000

app.command(compare.compare)
app.command(compare.worker)
app.command(compare.report_, name="report")
app.command(compare.watch)
app.command(compare.list_, name="list")


@app.command(name="bench")
def bench_(
    *,
    shapes: Annotated[
        list[str],
        Parameter(validator=one_of(SHAPES, "shape"), consume_multiple=True, negative=()),
    ] = [*SHAPES],  # noqa: B006
    gates: Annotated[
        list[str],
        Parameter(validator=one_of(GATES, "gate"), consume_multiple=True, negative=()),
    ] = [*GATES],  # noqa: B006
    threads: Annotated[
        list[int],
        Parameter(validator=Number(gte=1, lte=MOST_THREADS), consume_multiple=True, negative=()),
    ] = [1, 2],  # noqa: B006
    rounds: Annotated[int, Parameter(validator=Number(gte=1, lte=MOST_ROUNDS))] = 15,
    csv: Path | None = None,
) -> None:
    """Time one optimizer step against its peers: interleaved rounds, medians, one table.

    Args:
        shapes: Whose weights: a model's, 1,000 small matrices ("tiny"), one embedding.
        gates: What the gradients do to the gate: hold it open, shut, or fire by chance.
        threads: Numbers of threads.
        rounds: What a median is taken over; slow peers take part in a third.
        csv: File for the figures.
    """
    console = Console()
    if csv:
        check_file(csv)  # before minutes of work
    results = bench(shapes, gates, threads, rounds, Console(stderr=True).print)
    print_table(results, Console(width=max(console.width, 160)))  # narrower, it is unreadable
    if csv:
        write_csv(results, csv)


app.command(audit.command, name="audit")
app.command(diagnose.command, name="diagnose")
app.command(show.toy)
app.command(show.lemmas)


@app.command
def info() -> None:
    """Say which backends there are, and why not."""
    Console().print(described(), highlight=False, soft_wrap=True)
