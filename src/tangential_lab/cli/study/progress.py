"""What a study shows while it runs: a live table on a terminal, plain lines elsewhere."""

import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tangential_lab.names import label
from tangential_lab.reports import score, setting, settings
from tangential_lab.studies import Plan
from tangential_lab.terminal import wrapped
from tangential_lab.training import Record, Records, Spec


class Display:
    """Progress, time left and the current standing of a study; a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.records: Records = {}
        self.found: int | None = None  # trials that were there before
        self.start = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self.bar = self.progress.add_task("trials", total=plan.size, left="")
        self.live = Live(self._frame(), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def show(self, records: Records) -> None:
        """Show what is finished; the first time it is what was there."""
        if self.found is None:
            self.found = len(records)
            if self.found:
                self.say(f"{self.found} of {self.plan.size} trials were there: going on")
            new: list[Spec] = []
        else:
            new = [spec for spec in records if spec not in self.records]
        before, self.records = len(self.records), records
        self.progress.update(self.bar, completed=len(records), left=self._left())
        if self.console.is_terminal:
            self.live.update(self._frame())
            return
        for number, spec in enumerate(new, before + 1):
            self.say(self._line(number, spec, records[spec]))

    def stopping(self) -> None:
        """Say that the study stops as soon as the trials under way are saved."""
        self.say("Stopping: the trials under way are being saved (Ctrl-C again drops them) ...")

    def say(self, text: str) -> None:
        """Print a sentence above the table, wrapped at words."""
        lines = wrapped(text, self.console.width)
        self.console.print(lines, highlight=False, markup=False, soft_wrap=True)

    def _left(self) -> str:
        fresh = len(self.records) - (self.found or 0)
        if not fresh:
            return ""
        pace = (time.monotonic() - self.start) / fresh
        seconds = round(pace * (self.plan.size - len(self.records)))
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours}:{minutes:02}:{seconds % 60:02} left"

    def _line(self, number: int, spec: Spec, record: Record) -> str:
        left = f"; {left}" if (left := self._left()) else ""
        return (
            f"[{number:3}/{self.plan.size}] {label(spec.optimizer)}, {spec.phase}, "
            f"seed {spec.seed}: "
            f"{self._score(record)} at {settings(spec.values)}{left}"
        )

    def _frame(self) -> Group:
        table = Table(box=None, pad_edge=False)
        metric = escape(self.plan.metric.name)
        table.add_column("optimizer", overflow="fold")
        for heading in ("tuned", "best", "lr", "decay", "seeds", metric.replace(" ", "\n")):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, optimizer in self.plan.optimizers.items():
            table.add_row(f"[{optimizer.colour}]{escape(label(name))}[/]", *self._standing(name))
        return Group(self.progress, table)

    def _standing(self, optimizer: str) -> list[str]:
        mine = {s: r for s, r in self.records.items() if s.optimizer == optimizer}
        tuned = [s for s in mine if s.phase == "tune"]
        seeds = [r for s, r in mine.items() if s.phase == "test"]
        best = max(tuned, key=lambda s: self.plan.rank(mine[s]), default=None)
        point = best.values if best else {}
        mean = {"score": sum(r["score"] for r in seeds) / len(seeds)} if seeds else None
        return [
            f"{len(tuned)}/{self.plan.trials}",
            self._score(mine[best]) if best else "",
            *(setting(point, name) for name in ("lr", "weight_decay")),
            f"{len(seeds)}/{self.plan.seeds}",
            self._score(mean) if mean else "",
        ]

    def _score(self, record: Record) -> str:
        if record.get("diverged"):
            return "diverged"
        return score(self.plan.metric, record["score"])
