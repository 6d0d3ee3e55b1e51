"""The progress of a study: a live table on a terminal, one line per trial elsewhere; Ctrl-C."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tangential_lab.names import label
from tangential_lab.reports import score, setting, settings
from tangential_lab.studies import Plan, schedule, tuning
from tangential_lab.terminal import say
from tangential_lab.training import PHASE_NAMES, Record, Records, Spec


class Display:
    """Shows progress, time left and the current results of a study; a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.records: Records = {}
        self.known, self.size = schedule.trials(plan, {}), schedule.size(plan, {})
        self.finished_before: int | None = None  # trials of earlier runs of the command
        self.start = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self.bar = self.progress.add_task("trials", total=self.size, left="")
        self.live = Live(self.table(), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def show(self, records: Records) -> None:
        """Show the finished trials; the first call passes those of earlier runs."""
        before, self.records = self.records, records
        self.size = schedule.size(self.plan, records)
        self.known = schedule.trials(self.plan, records)
        if self.finished_before is None:
            self.finished_before, before = len(records), records
            if records:
                self.say(f"{len(records)} of {self.size} trials are already finished")
        self.progress.update(self.bar, completed=len(records), total=self.size, left=self._left())
        if self.console.is_terminal:
            self.live.update(self.table())
            return
        new = [spec for spec in records if spec not in before]
        for number, spec in enumerate(new, len(before) + 1):
            self.say(self._line(number, spec))

    def stopping(self) -> None:
        """Say that the study stops as soon as the running trials are saved."""
        self.say("Stopping: saving the running trials (press Ctrl-C again to drop them) ...")

    def say(self, text: str) -> None:
        """Print a sentence above the table, wrapped at words."""
        say(self.console, text)

    def _left(self) -> str:
        finished = len(self.records) - (self.finished_before or 0)
        if not finished:
            return ""
        per_trial_s = (time.monotonic() - self.start) / finished
        left_s = round(per_trial_s * (self.size - len(self.records)))
        return f"{timedelta(seconds=left_s)} left"

    def _line(self, number: int, spec: Spec) -> str:
        trial = f"{label(spec.optimizer)}, {PHASE_NAMES[spec.phase]}, seed {spec.seed}"
        result = f"{self._score(self.records[spec])} at {settings(spec.values)}"
        left = f"; {left}" if (left := self._left()) else ""
        return f"[{number:3}/{self.size}] {trial}: {result}{left}"

    def table(self) -> Group:
        """The progress bar, and the results so far of every optimizer."""
        table = Table(box=None, pad_edge=False)
        metric = escape(self.plan.metric.name)
        table.add_column("optimizer", overflow="fold")
        for heading in ("tuned", "best", "lr", "decay", "seeds", metric.replace(" ", "\n")):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, optimizer in self.plan.optimizers.items():
            table.add_row(f"[{optimizer.colour}]{escape(label(name))}[/]", *self._results(name))
        return Group(self.progress, table)

    def _results(self, optimizer: str) -> list[str]:
        records = {s: r for s, r in self.records.items() if s.optimizer == optimizer}
        known = Counter(s.phase for s in self.known if s.optimizer == optimizer)
        tuned = [s for s in records if s.phase == "tune"]
        seeds = [r for s, r in records.items() if s.phase == "test"]
        best = next(iter(tuning.ranking(self.plan, records, optimizer)), None)
        point = best.point if best else {}
        mean = {"score": sum(r["score"] for r in seeds) / len(seeds)} if seeds else None
        return [
            f"{len(tuned)}/{known['tune']}",
            self._score({"diverged": best.diverged, "score": best.score}) if best else "",
            *(setting(point, name) for name in ("lr", "weight_decay")),
            f"{len(seeds)}/{known['test']}",
            self._score(mean) if mean else "",
        ]

    def _score(self, record: Record) -> str:
        if record.get("diverged"):
            return "diverged"
        return score(self.plan.metric, record["score"])


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second has its usual effect.

    A KeyboardInterrupt could interrupt the saving of a trial. `stopping` is called, too.
    """
    stop, usual = Event(), {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def handle(*_: Any) -> None:
        stop.set()
        stopping()
        restore()

    for number in usual:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
