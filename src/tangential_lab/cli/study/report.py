"""The command `tangential report`: the report of a study on the terminal and as files."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential_lab.cli.study.location import DEFAULT_LOCATION, Location, study_errors
from tangential_lab.files import make_writable_folder
from tangential_lab.names import label
from tangential_lab.reports import (
    Interval,
    Report,
    Row,
    grid,
    multiples,
    near_gap,
    near_score,
    number,
    setting,
    unsigned_zero,
    write_overview,
    write_report,
)
from tangential_lab.reports import report as report_of
from tangential_lab.studies import Plan, Store, tuning
from tangential_lab.terminal import NO_BREAK_SPACE, fits, print_paths, print_table, wrapped
from tangential_lab.training import Metric

NAME_WIDTH = 24  # longer names take several lines


class Column(NamedTuple):
    """A column of a table: its heading, and a function that returns the lines of a cell.

    The parts of a line stand below one another where the terminal is narrow.
    """

    heading: str
    cell: Callable[[Row], list[list[str]]]


def report(studies: list[str], /, *, location: Location = DEFAULT_LOCATION) -> None:
    """Report on one study, or on several together.

    Args:
        studies: Names of studies, or their folders.
        location: Where studies are stored.
    """
    console, reports = Console(), []
    with study_errors():
        for study in studies:
            folder, store = location.open(study)
            with store.undamaged():
                reports.append(conclude(store, folder, console))
        if len(reports) > 1:
            print_paths(console, write_overview(reports, location.out))


def conclude(store: Store, folder: Path, console: Console) -> Report:
    """Write the report of a study into its folder, and print it."""
    plan = store.plan()
    make_writable_folder(folder)
    result = report_of(plan, store.records(plan))
    paths = write_report(result, folder)
    print_report(result, console)
    print_paths(console, paths[:1])
    return result


def print_report(report: Report, console: Console) -> None:
    """Print the results of a study, in tables and sentences."""
    if report.plan.analysis:
        _print_analysis(report, console)
    else:
        _print_comparison(report, console)
    _print_sentences(
        [f"Next, {what}: {command}" for command, what in report.next_steps.items()], console
    )


def _print_comparison(report: Report, console: Console) -> None:
    plan, lr = report.plan, "the published" if report.plan.sweep else "the baseline's"
    seeds = _seeds(plan.tuning_seeds if plan.sweep else plan.seeds)
    best = "at its best point" if plan.trials else "at its settings"
    best = "at the point that is best on the other seeds" if plan.sweep else best
    bare = f"At {lr} learning rate, without weight decay ({seeds})"
    _print_rows(bare, report.undecayed, report, console)
    _print_sentences(report.mechanisms, console)
    if plan.sweep and tuning.is_grid(plan):
        print_table(console, _grid(report))
    _print_rows(f"Each {best} ({seeds})", report.rows, report, console)
    _print_sentences(report.sentences, console)


def _print_analysis(report: Report, console: Console) -> None:
    seeds, decayed = _seeds(report.plan.seeds), report.plan.undecayed
    _print_rows(f"Without weight decay ({seeds})", report.undecayed, report, console)
    kind = "With" if decayed else "Without"
    _print_rows(f"{kind} weight decay ({seeds})", report.rows, report, console)
    _print_sentences([report.headline, *report.analysis], console)


def _seeds(count: int) -> str:
    return f"{count} paired seeds" if count > 1 else "one seed"


def _print_sentences(texts: list[str], console: Console) -> None:
    for text in texts:
        text = re.sub(r"\bratio (?=\d)", f"ratio{NO_BREAK_SPACE}", text)
        console.print(wrapped(text, console.width), highlight=False, markup=False)


def _print_rows(title: str, rows: list[Row], report: Report, console: Console) -> None:
    layouts = [_layout(title, report.plan, rows, console.width, stacked=x) for x in (False, True)]
    for table in min(layouts, key=len) if rows else []:
        print_table(console, table)


def _grid(report: Report) -> Table:
    """Mean scores: one row per optimizer and weight decay, one column per learning rate."""
    plan, metric = report.plan, report.plan.metric
    unit = f", {metric.unit}" if metric.unit else ""
    table = Table(
        title=f"Mean {escape(metric.name + unit)}, by learning rate", title_justify="left"
    )
    table.add_column("optimizer", overflow="fold")
    table.add_column("decay", justify="right")
    rows = grid(plan, report.records)
    columns = multiples(rows)
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        scores = (row.scores.get(x, "") for x in columns)
        table.add_row(escape(label(row.optimizer)), f"{row.decay:g}", *scores)
    return table


def _layout(title: str, plan: Plan, rows: list[Row], width: int, *, stacked: bool) -> list[Table]:
    """Tables, each with as many columns as fit; stacked cells have several lines."""
    groups: list[list[Column]] = [[]]
    for column in _columns(plan):
        wider = _table("", plan, rows, [*groups[-1], column], stacked=stacked)
        if groups[-1] and not fits(wider, width):
            groups.append([])
        groups[-1].append(column)
    return [
        _table("" if at else title, plan, rows, columns, stacked=stacked)
        for at, columns in enumerate(groups)
    ]


def _columns(plan: Plan) -> list[Column]:
    metric = plan.metric
    unit = f", {metric.unit}" if metric.unit else ""
    share: Callable[[float], str] = lambda x: (
        unsigned_zero(f"{100 * x:.0f} %") if math.isfinite(x) else ""
    )
    mechanism = [
        Column("norm", lambda row: [[_mean(row.norm)]]),
        Column("effective step", lambda row: [[_mean(row.effective_step)]]),
        Column("growth by momentum", lambda row: [[share(row.memory_share.mean)]]),
    ]
    comparison = [
        Column("minus baseline", lambda row: _differences(metric, row)),
        Column("ms per step", lambda row: [[number(1000 * row.step_s.mean)]]),
    ]
    before, after = ([], []) if plan.analysis else (comparison[:1], comparison[1:])
    return [
        Column("lr", lambda row: [[setting(row.point, "lr")]]),
        Column("decay", lambda row: [[setting(row.point, "weight_decay")]]),
        Column(metric.name + unit, lambda row: [_with_interval(*near_score(metric, row.score))]),
        *before,
        *(mechanism if plan.invariant else []),
        *after,
    ]


def _table(
    title: str, plan: Plan, rows: list[Row], columns: list[Column], *, stacked: bool
) -> Table:
    table = Table(title=title or None, title_justify="left")
    table.add_column("optimizer", overflow="fold")
    between = "\n" if stacked else " "
    for column in columns:
        heading = escape(column.heading.replace(" ", "\n"))
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        diverged = f"{between}({row.diverged} diverged)" if row.diverged else ""
        lines = escape("\n".join(wrap(label(row.optimizer), NAME_WIDTH)))
        name = f"[{plan.optimizers[row.optimizer].colour}]{lines}[/]{diverged}"
        cells = ("\n".join(map(between.join, column.cell(row))) for column in columns)
        table.add_row(name, *map(escape, cells))
    return table


def _mean(interval: Interval) -> str:
    return number(interval.mean) if interval.n else ""


def _with_interval(mean: str, low: str, high: str) -> list[str]:
    return [mean, f"({low} to {high})"] if low else [mean]


def _differences(metric: Metric, row: Row) -> list[list[str]]:
    """The difference from each baseline, which is named if there are several."""
    lines = []
    for pair in row.comparisons:
        parts = _with_interval(*near_gap(metric, pair.difference))
        several = len(row.comparisons) > 1
        lines.append([f"{label(pair.baseline)} {parts[0]}", *parts[1:]] if several else parts)
    return lines
