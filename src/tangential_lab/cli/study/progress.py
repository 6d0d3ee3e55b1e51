"""The progress of a study: a live table on a terminal, one line per trial elsewhere; Ctrl-C."""

import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from tangential_lab.errors import INTERRUPTS, Terminated, handled_by
from tangential_lab.names import label
from tangential_lab.reports import score, setting, settings
from tangential_lab.studies import Plan, schedule, tuning
from tangential_lab.terminal import first_that_fits, say
from tangential_lab.training import PHASE_NAMES, Record, Records, Spec

REFRESH_S = 0.25  # between changes of a live table
SILENCE_S = 30.0  # without a line, where there is no terminal
MOST_SHARES = 8  # of running trials that are shown each
MEAN = "mean"  # the column of the metric
NARROW = ("tuned", "seeds", MEAN)  # columns of a narrow terminal


class Display:
    """Shows progress, time left and the current results of a study; a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.records: Records = {}
        self.known, self.size = schedule.trials(plan, {}), schedule.size(plan, {})
        self.finished_before: int | None = None  # trials of earlier runs of the command
        self.start = self.shown_at = time.monotonic()
        self.shares: Sequence[float] = ()  # of their steps that the running trials have done
        self.running = Text(self._running())
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

    def show(self, records: Records, shares: Sequence[float] = ()) -> None:
        """Show the finished trials, and the shares of their steps that running trials have done.

        The first call passes the trials of earlier runs of the command.
        """
        self.shares = shares
        if self.finished_before is None or len(records) != len(self.records):
            self._show_finished(records)
        self._show_running()

    def show_share(self, share: float) -> None:
        """Show the share of its steps that the only running trial has done; NaN if none runs."""
        self.shares = () if math.isnan(share) else (share,)
        self._show_running()

    def _show_finished(self, records: Records) -> None:
        before, self.records = self.records, records
        self.size = schedule.size(self.plan, records)
        self.known = schedule.trials(self.plan, records)
        if self.finished_before is None:
            self.finished_before, before = len(records), records
            if records:
                self.say(f"{len(records)} of {self.size} trials are already finished")
        self._update()
        if self.console.is_terminal:
            self.live.update(self.table())
            return
        new = [spec for spec in records if spec not in before]
        for number, spec in enumerate(new, len(before) + 1):
            self.say(self._line(number, spec))

    def _show_running(self) -> None:
        pause_s = REFRESH_S if self.console.is_terminal else SILENCE_S
        if time.monotonic() - self.shown_at < pause_s:
            return
        self._update()
        if self.shares and not self.console.is_terminal:
            self.say("; ".join(filter(None, [self._running(), self._left()])))

    def _update(self) -> None:
        done = len(self.records) + sum(self.shares)
        self.progress.update(self.bar, completed=done, total=self.size, left=self._left())
        self.running.plain = self._running()
        self.shown_at = time.monotonic()

    def _running(self) -> str:
        """The shares of their steps that the running trials have done."""
        if not self.shares and len(self.records) == (self.finished_before or 0):
            return "waiting for workers"
        percents = [f"{100 * share:.0f} %" for share in sorted(self.shares, reverse=True)]
        if len(percents) > MOST_SHARES:
            return f"{len(percents)} trials are running: {percents[-1]} to {percents[0]} done"
        return f"running: {', '.join(percents)} done" if percents else ""

    def stopping(self) -> None:
        """Say that the study stops as soon as the running trials are saved."""
        self.say("Stopping: saving the running trials (press Ctrl-C again to drop them) ...")

    def say(self, text: str) -> None:
        """Print a sentence above the table, wrapped at words."""
        say(self.console, text)
        self.shown_at = time.monotonic()

    def _left(self) -> str:
        finished = len(self.records) - (self.finished_before or 0)
        if not finished:
            return ""
        per_trial_s = (time.monotonic() - self.start) / (finished + sum(self.shares))
        left_s = round(per_trial_s * (self.size - len(self.records) - sum(self.shares)))
        return f"{timedelta(seconds=left_s)} left"

    def _line(self, number: int, spec: Spec) -> str:
        trial = f"{label(spec.optimizer)}, {PHASE_NAMES[spec.phase]}, seed {spec.seed}"
        result = f"{self._score(self.records[spec])} at {settings(spec.values)}"
        left = f"; {left}" if (left := self._left()) else ""
        return f"[{number:3}/{self.size}] {trial}: {result}{left}"

    def table(self) -> Group:
        """The progress bar, and the results so far of every optimizer."""
        all_columns = [*self._results(next(iter(self.plan.optimizers)))]
        tables = [self._table(columns) for columns in (all_columns, NARROW, NARROW[-1:])]
        return Group(self.progress, self.running, first_that_fits(tables, self.console.width))

    def _table(self, columns: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("optimizer", overflow="fold")
        for heading in columns:
            heading = self.plan.metric.name if heading == MEAN else heading
            table.add_column(escape(heading).replace(" ", "\n"), justify="right", no_wrap=True)
        for name, optimizer in self.plan.optimizers.items():
            results = self._results(name)
            cells = (results[column] for column in columns)
            table.add_row(f"[{optimizer.colour}]{escape(label(name))}[/]", *cells)
        return table

    def _results(self, optimizer: str) -> dict[str, str]:
        """The cells of an optimizer, by column."""
        records = {s: r for s, r in self.records.items() if s.optimizer == optimizer}
        known = Counter(s.phase for s in self.known if s.optimizer == optimizer)
        tuned = [s for s in records if s.phase == "tune"]
        seeds = [r for s, r in records.items() if s.phase == "test"]
        best = next(iter(tuning.ranking(self.plan, records, optimizer)), None)
        point = best.point if best else {}
        mean = {"score": sum(r["score"] for r in seeds) / len(seeds)} if seeds else None
        return {
            "tuned": f"{len(tuned)}/{known['tune']}",
            "best": self._score({"diverged": best.diverged, "score": best.score}) if best else "",
            "lr": setting(point, "lr"),
            "decay": setting(point, "weight_decay"),
            "seeds": f"{len(seeds)}/{known['test']}",
            MEAN: self._score(mean) if mean else "",
        }

    def _score(self, record: Record) -> str:
        if record.get("diverged"):
            return "diverged"
        return score(self.plan.metric, record["score"])


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the command.

    A KeyboardInterrupt could interrupt the saving of a trial. `stopping` is called, too.

    Raises:
        Terminated: when the context ends, if the first signal was SIGTERM.
    """
    stop, usual = Event(), ExitStack()
    first: list[int] = []

    def handle(number: int, _: Any) -> None:
        first.append(number)
        stop.set()
        stopping()
        usual.close()

    with usual:
        usual.enter_context(handled_by(handle, *INTERRUPTS))
        try:
            yield stop
        except KeyboardInterrupt:
            if signal.SIGTERM not in first:
                raise
    if signal.SIGTERM in first:
        raise Terminated
