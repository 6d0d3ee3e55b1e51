"""A report and the laboratory's inventory, on the terminal."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tangential.lab import tasks
from tangential.lab.plan import Plan
from tangential.lab.report import Report
from tangential.lab.rivals import RIVALS
from tangential.lab.standings import Row
from tangential.lab.statistics import Interval

WIDTH = 110  # narrower, the tables are unreadable


def print_report(report: Report, console: Console) -> None:
    """Print what was seen, in tables and sentences."""
    plan = report.plan
    console = Console(width=max(console.width, WIDTH))
    seeds = f"{plan.seeds} paired seeds" if plan.seeds > 1 else "one seed"
    if report.rows:
        console.print(_table(f"Each at its best point ({seeds})", plan, report.rows))
    if report.undecayed:
        title = f"At the baseline's lr, without decay ({seeds})"
        console.print(_table(title, plan, report.undecayed))
    for sentence in report.sentences:
        console.print(sentence, highlight=False, markup=False)


def _table(title: str, plan: Plan, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("rival")
    metric = escape(plan.metric.name) + (f", {plan.metric.unit}" if plan.metric.unit else "")
    for heading in ("lr", metric, "minus baseline", "norm", "eff. step", "memory", "ms/step"):
        table.add_column(heading, justify="right")
    scale, digits = (100, 2) if plan.metric.unit == "%" else (1, 4)
    for row in rows:
        diverged = f" ({row.diverged} diverged)" if row.diverged else ""
        colour = plan.rivals[row.rival].colour
        table.add_row(
            f"[{colour}]{escape(row.rival)}[/]{diverged}",
            f"{row.point['lr']:.3g}" if "lr" in row.point else "",
            _spread(row.score, scale, f".{digits}f"),
            _spread(row.against.difference, scale, f"+.{digits}f") if row.against else "",
            f"{row.norm.mean:.2f}",
            f"{row.effective_step.mean:.4f}",
            f"{100 * share:.0f} %" if math.isfinite(share := row.memory_share.mean) else "",
            f"{1000 * row.step_s.mean:.2f}",
        )
    return table


def _spread(found: Interval, scale: float, form: str) -> str:
    mean = f"{scale * found.mean:{form}}"
    if not math.isfinite(found.low):
        return mean
    return f"{mean} ({scale * found.low:{form}} to {scale * found.high:{form}})"


def print_list(console: Console) -> None:
    """Print the tasks, with their options, and the rivals."""
    table = Table(title="tasks", title_justify="left", box=None, show_header=False)
    for name in tasks.NAMES:
        table.add_row(name, tasks.about(name))
        table.add_row("", f"[dim]--set {escape(tasks.spelt(name))}[/]")
    console.print(table)
    table = Table(title="rivals", title_justify="left", box=None, show_header=False)
    for name, rival in RIVALS.items():
        table.add_row(name, rival.about)
    console.print(table)
