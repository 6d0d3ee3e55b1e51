"""What the CSV and Parquet sinks share: pending logs, resumed runs, errors.

- **A resumed run appends to its file.** The run continues at the step of its first log: rows of
  this step and of later steps are dropped first, because the run logs them again. A file with no
  earlier step belongs to another run: it is renamed ("run.1.csv"), with a warning.
- **A log that cannot be written**, because the disk is full for instance, raises OSError out of
  `optimizer.step()` after the step is complete. The log is kept and written with the next one. A
  caller who catches the error and trains on loses neither step nor log.
- One file is for the logs of one process and of one open monitor. If another process writes to it,
  a warning says so.
"""

import atexit
import errno
import warnings
from abc import ABC, abstractmethod
from itertools import count
from pathlib import Path

from tangential.monitor.columns import Values
from tangential.monitor.sinks.rows import FIELDS, Row, rows_of_log

FOREIGN = (
    "was not written by Monitor, or has other columns. Pass a CSV file written by Monitor, which "
    f"begins with {','.join(FIELDS[:3])},..., or its folder of Parquet files"
)


class FileSink(ABC):
    """A sink that appends `flush_every` logs at a time to `path`; a subclass is a file format."""

    def __init__(self, path: Path, weights: bool, flush_every: int = 1) -> None:
        self.path, self.weights, self.flush_every = path, weights, flush_every
        self.pending: list[list[Row]] = []  # logs
        self.resumed = False
        self.written: tuple[int, int] | None = None  # the file after the last flush

    @abstractmethod
    def drop_from(self, step: int) -> bool:
        """Drop rows of this step and later ones; False, without a change, if no row is earlier."""

    @abstractmethod
    def size(self) -> int:
        """A number that every `append` changes."""

    @abstractmethod
    def append(self, rows: list[Row]) -> None:
        """Write all these rows, or raise OSError and write none."""

    def __call__(self, values: Values, step: int) -> None:
        """Take a log, and write it unless `flush_every` says to wait."""
        rows = rows_of_log(values, step)
        if not self.pending and self.flush_every > 1:
            atexit.register(self.close)  # for a run that ends with an exception
        self.pending.append(rows)
        if len(self.pending) >= self.flush_every:
            complete = "The optimizer's step is complete; the next log tries again"
            self._flush(f"the log of step {int(step)}", f". {complete}")

    def close(self) -> None:
        """Write pending logs. After this, a run may resume at an earlier step."""
        if self.pending:
            self._flush("the last logs")
        self.resumed = False
        self.written = None

    def _flush(self, what: str, advice: str = "") -> None:
        rows = [row for log in self.pending for row in log]
        try:
            if rows and not self.resumed:
                self._resume(rows[0]["step"])
                self.resumed = True
            elif None not in (self.written, now := self._state()) and now != self.written:
                warnings.warn(
                    f"{self.path} was changed since the last log, not by this monitor. If another "
                    "process logs to it, it has the rows of two runs: give each a file of its own",
                    stacklevel=2,
                )
            self.append(rows)
            self.written = self._state()
        except OSError as error:
            reason = f"{what} could not be written: {error.strerror or error}{advice}"
            raise OSError(error.errno or errno.EIO, reason, str(self.path)) from error
        self.pending = []
        atexit.unregister(self.close)

    def _state(self) -> tuple[int, int] | None:
        """The file's identity and size; None if it does not exist, because the user moved it."""
        return (self.path.stat().st_ino, self.size()) if self.path.exists() else None

    def _resume(self, step: int) -> None:
        if not self.path.exists():
            return
        with warnings.catch_warnings(action="ignore"):  # shown when the sink was created
            continues = self.drop_from(step)
        if not continues:
            paths = (self.path.with_stem(f"{self.path.stem}.{number}") for number in count(1))
            free = next(path for path in paths if not path.exists())
            self.path.rename(free)
            warnings.warn(
                f"{self.path} has no step before {step}, where this run begins: "
                f"the file of the earlier run is {free} now",
                stacklevel=2,
            )
