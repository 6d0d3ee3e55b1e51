"""The command line."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from tangential.backends import described
from tangential.lab import audit, compare, diagnose, show
from tangential.lab.bench import bench
from tangential.lab.names import one_of
from tangential.lab.timings import print_table, write_csv
from tangential.lab.workloads import GATES, SHAPES

app = App(
    name="tangential",
    help="Optimizers that move where it matters: a laboratory for AdamP and SGDP.",
    version=version("tangential"),
)


Count = Annotated[int, Parameter(validator=Number(gte=1))]

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
        Parameter(validator=Number(gte=1), consume_multiple=True, negative=()),
    ] = [1, 2],  # noqa: B006
    rounds: Count = 15,
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
    try:
        results = bench(shapes, gates, threads, rounds, Console(stderr=True).print)
    except ModuleNotFoundError as error:
        console.print(f"Stopped: {error}", highlight=False)
        sys.exit(1)
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
