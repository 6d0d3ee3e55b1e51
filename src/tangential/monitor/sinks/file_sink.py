"""What the CSV and Parquet sinks share: pending logs, resumed runs, errors.

- **A resumed run appends to its file.** The run continues at the step of its first log: lines of
  this step and of later steps are dropped first, because the run logs them again. A file with no
  earlier step belongs to another run: it is renamed ("run.1.csv"), with a warning.
- **A log that cannot be written**, because the disk is full for instance, raises OSError out of
  `optimizer.step()` after the step is complete. The log is kept and written with the next one. A
  caller who catches the error and trains on loses neither step nor log.
- One file is for the logs of one process and of one open monitor.
"""

import atexit
import errno
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tangential.monitor.columns import Values
from tangential.monitor.sinks.lines import FIELDS, Line, long, step_number

FOREIGN = (
    "was not written by Monitor, or has other columns. Pass a CSV file written by Monitor, which "
    f"begins with {','.join(FIELDS[:3])},..., or its folder of Parquet files"
)


class FileSink(ABC):
    """A sink that appends to `path`; a subclass implements a file format.

    Args:
        path: File or folder.
        weights: Also write values for every weight.
        flush_every: Number of logs that are written together, >= 1.
    """

    def __init__(self, path: Path, weights: bool, flush_every: int = 1) -> None:
        self.path, self.weights, self.flush_every = path, weights, flush_every
        self.pending: list[Line] = []
        self.logs, self.first_step, self.resumed = 0, 0, False

    @abstractmethod
    def earliest_step(self) -> int | None:
        """The first step in the file; None if it has no step."""

    @abstractmethod
    def drop_from(self, step: int) -> None:
        """Drop this step and later ones; create the file if it does not exist."""

    @abstractmethod
    def append(self, lines: list[Line]) -> None:
        """Write all these lines, or raise OSError and write none."""

    def __call__(self, values: Values, step: int) -> None:
        """Take a log, and write it unless `flush_every` says to wait."""
        step = step_number(step)
        lines = long(values, step)
        if not (self.pending or self.resumed):
            self.first_step = step
        if not self.pending and self.flush_every > 1:
            atexit.register(self.close)  # for a run that ends with an exception
        self.pending += lines
        self.logs += 1
        if self.logs >= self.flush_every:
            self._flush(f"the log of step {step}", "the next log tries again")

    def close(self) -> None:
        """Write pending logs. After this, a run may resume at an earlier step."""
        if self.pending:
            self._flush("the last logs")
        self.resumed = False

    def _flush(self, what: str, next_try: str = "") -> None:
        with _explained(self.path, what, next_try):
            if not self.resumed:
                self._resume()
                self.resumed = True
            self.append(self.pending)
        self.pending, self.logs = [], 0
        atexit.unregister(self.close)

    def _resume(self) -> None:
        earliest, step = self.earliest_step(), self.first_step
        if earliest is not None and earliest >= step:
            stem, suffix = self.path.stem, self.path.suffix
            names = (self.path.with_name(f"{stem}.{number}{suffix}") for number in count(1))
            free = next(name for name in names if not name.exists())
            self.path.rename(free)
            warnings.warn(
                f"{self.path} has no step before {step}, where this run begins: "
                f"the file of the earlier run is {free} now",
                stacklevel=2,
            )
        self.drop_from(step)


@contextmanager
def _explained(path: Path, what: str, next_try: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        then = f". The optimizer's step is complete; {next_try}" if next_try else ""
        raise OSError(
            error.errno or errno.EIO,
            f"{what} could not be written: {error.strerror or error}{then}",
            str(path),
        ) from error
