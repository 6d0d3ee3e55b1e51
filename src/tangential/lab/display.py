"""What a study shows while it runs: a live table on a terminal, plain lines elsewhere."""

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tangential.lab.rivals import RIVALS
from tangential.lab.study import Plan, Record, Records, rank
from tangential.lab.task import Spec


class Display:
    """Progress, time left and the current standing of a study; a context manager."""

    def __init__(self, plan: Plan, metric: str, console: Console) -> None:
        self.plan, self.metric, self.console = plan, metric, console
        self.records: Records = {}
        self.fresh, self.start = 0, time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self.bar = self.progress.add_task("trials", total=self.plan.size, left="")
        self.live = Live(self._frame(), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def add(self, spec: Spec, record: Record, *, fresh: bool) -> None:
        """Show a finished trial; `fresh` where it was trained now, not found."""
        self.records[spec] = record
        self.fresh += fresh
        if fresh and self.fresh == 1 and len(self.records) > 1:
            self._say(f"{len(self.records) - 1} of {self.plan.size} trials were there: going on")
        self.progress.update(self.bar, completed=len(self.records), left=self._left())
        if self.console.is_terminal:
            self.live.update(self._frame())
        elif fresh:
            self._say(self._line(spec, record))

    def stopping(self) -> None:
        """Say that the study ends as soon as the trials under way have."""
        self._say("Stopping: the trials under way are ending (Ctrl-C again drops them) ...")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _left(self) -> str:
        if not self.fresh:
            return ""
        pace = (time.monotonic() - self.start) / self.fresh
        seconds = round(pace * (self.plan.size - len(self.records)))
        return f"{seconds // 60}:{seconds % 60:02} left"

    def _line(self, spec: Spec, record: Record) -> str:
        return (
            f"[{len(self.records):3}/{self.plan.size}] {spec.rival:6} {spec.phase:9} "
            f"seed {spec.seed:<4} lr {spec.lr:<9g} weight_decay {spec.weight_decay:<9g} "
            f"{self.metric} {_percent(record)}  {self._left()}"
        )

    def _frame(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("rival", "tuned", "best", "lr", "weight decay", "seeds", self.metric):
            table.add_column(heading, justify="left" if heading == "rival" else "right")
        for rival in self.plan.rivals:
            table.add_row(f"[{RIVALS[rival].colour}]{rival}[/]", *self._standing(rival))
        return Group(self.progress, table)

    def _standing(self, rival: str) -> list[str]:
        mine = {s: r for s, r in self.records.items() if s.rival == rival}
        tuned = [s for s in mine if s.phase == "tune"]
        seeds = [r for s, r in mine.items() if s.phase == "report"]
        best = max(tuned, key=lambda s: rank(mine[s]), default=None)
        return [
            f"{len(tuned)}/{self.plan.trials}",
            *(
                [_percent(mine[best]), f"{best.lr:g}", f"{best.weight_decay:g}"]
                if best
                else [""] * 3
            ),
            f"{len(seeds)}/{self.plan.seeds}",
            _percent({"score": sum(r["score"] for r in seeds) / len(seeds)}) if seeds else "",
        ]


def _percent(record: Record) -> str:
    return "diverged" if record.get("diverged") else f"{100 * record['score']:.2f} %"
