"""The command line."""

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from tangential.backends import described, native
from tangential.lab import audit, diagnose, show
from tangential.lab.bench import bench
from tangential.lab.display import Display
from tangential.lab.report import Report, Row, report, write
from tangential.lab.rivals import RIVALS
from tangential.lab.study import Plan, Records, Store, cores, interruptible, run
from tangential.lab.tasks import TASKS
from tangential.lab.timings import print_table, write_csv
from tangential.lab.workloads import GATES, SHAPES

app = App(
    name="tangential",
    help="Optimizers that move where it matters: a laboratory for AdamP and SGDP.",
    version=version("tangential"),
)


def _one_of(known: Iterable[str], what: str) -> Callable[[Any, str | Sequence[str]], None]:
    def check(_: Any, names: str | Sequence[str]) -> None:
        for name in [names] if isinstance(names, str) else names:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")

    return check


Count = Annotated[int, Parameter(validator=Number(gte=1))]


@app.command
def compare(
    task: Annotated[str, Parameter(validator=_one_of(TASKS, "task"))],
    /,
    *,
    rivals: Annotated[
        list[str], Parameter(validator=_one_of(RIVALS, "rival"), consume_multiple=True, negative=())
    ] = [*RIVALS],  # noqa: B006
    trials: Count = 16,
    seeds: Annotated[int, Parameter(validator=Number(gte=2))] = 5,
    epochs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    out: Path = Path("runs"),
) -> None:
    """Tune every rival equally, run the best of each on the same seeds, and report.

    Ctrl-C stops when the trials under way have ended; the same command goes on from there.

    Args:
        task: What to train: see `tangential list`.
        rivals: Optimizers to compare.
        trials: Tuning trials a rival, at the same quasi-random points for all.
        seeds: Report seeds, the same for all.
        epochs: Length of every trial; by default the task's own.
        workers: Processes, a core each; by default all cores.
        out: Folder for trials and report.
    """
    console = Console()
    if reason := native.reason():
        console.print(f"Note: {reason}; until then trials run on foreach.", highlight=False)
    chosen = TASKS[task]()
    plan = Plan(task, tuple(dict.fromkeys(rivals)), trials, seeds, epochs or chosen.epochs)
    folder = out / task
    try:
        records = _run(plan, chosen.metric, Store(folder), workers or cores(), console)
        result = report(chosen, plan, records)
        paths = write(chosen, result, folder)
    except (KeyboardInterrupt, OSError, BrokenProcessPool) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        console.print("Stopped." if interrupted else f"Stopped: {error}", highlight=False)
        console.print("Finished trials are kept: the same command goes on from here.")
        sys.exit(130 if interrupted else 1)
    _print(chosen.metric, result, console)
    for path in paths:
        console.print(f"[dim]{path.resolve()}[/dim]", soft_wrap=True, highlight=False)


def _run(plan: Plan, metric: str, store: Store, workers: int, console: Console) -> Records:
    records: Records = {}
    with Display(plan, metric, console) as display, interruptible(display.stopping) as stop:
        for specs in (plan.tuning, lambda: plan.report(records)):
            with closing(run(specs(), store, workers, stop)) as finished:
                for spec, record, fresh in finished:
                    records[spec] = record
                    display.add(spec, record, fresh=fresh)
    return records


def _print(metric: str, result: Report, console: Console) -> None:
    seeds = f"{result.plan.seeds} paired seeds, ± 95 % interval"
    console.print(_table(f"Tuned ({seeds})", metric, result.rows))
    console.print(_table(f"Same lr, no decay ({seeds})", metric, result.mechanism))
    for sentence in result.findings:
        console.print(sentence, highlight=False)


def _table(title: str, metric: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("rival")
    for heading in ("lr", f"{metric}, %", "minus baseline", "norm", "eff. step", "ms/step"):
        table.add_column(heading, justify="right")
    for row in rows:
        diverged = f" ({row.diverged} diverged)" if row.diverged else ""
        table.add_row(
            f"[{RIVALS[row.rival].colour}]{row.rival}[/]{diverged}",
            f"{row.lr:.3g}",
            f"{100 * row.score.mean:.2f} ±{100 * row.score.half:.2f}",
            f"{100 * d.mean:+.2f} ±{100 * d.half:.2f}" if (d := row.difference) else "",
            f"{row.norm.mean:.2f}",
            f"{row.effective_step.mean:.4f}",
            f"{1000 * row.step_s:.2f}",
        )
    return table


@app.command(name="list")
def list_() -> None:
    """Name the tasks and the rivals."""
    console = Console()
    for title, rows in (
        ("tasks", [(name, task().about) for name, task in TASKS.items()]),
        ("rivals", [(name, rival.about) for name, rival in RIVALS.items()]),
    ):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)


@app.command(name="bench")
def bench_(
    *,
    shapes: Annotated[
        list[str],
        Parameter(validator=_one_of(SHAPES, "shape"), consume_multiple=True, negative=()),
    ] = [*SHAPES],  # noqa: B006
    gates: Annotated[
        list[str],
        Parameter(validator=_one_of(GATES, "gate"), consume_multiple=True, negative=()),
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
