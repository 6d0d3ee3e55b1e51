"""A monitor's files while a run writes them, and when it goes on in them."""

import atexit
import errno
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tangential.monitor.columns import Values
from tangential.monitor.files import arrow, cells, cut_part, encoded, kept, parts, span, write_part
from tangential.monitor.given_sinks import step_number
from tangential.monitor.lines import FIELDS, Line, long


class Csv:
    """See `tangential.monitor.sinks.csv`."""

    def __init__(self, path: Path, weights: bool) -> None:
        self.path, self.weights = path, weights
        self.pending, self.first, self.appended = b"", -1, False
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ValueError(f"path must be a file, but {path} is {kind}")
        if path.exists():
            kept(path, math.inf)

    def __call__(self, values: Values, step: int) -> None:
        """Take a log."""
        step = step_number(step)
        data = encoded(map(cells, long(values, step)))
        if not (self.pending or self.appended):
            self.first = step
        self.pending += data
        self._flush(step)

    def _flush(self, step: int | None) -> None:
        with _explained(self.path, step):
            if not self.appended:
                go_on_csv(self.path, self.first)
                self.appended = True
            self._write()

    def _write(self) -> None:
        """All that is pending or nothing: part of a line would spoil the next one."""
        with self.path.open("ab", buffering=0) as file:
            size = file.tell()
            data = self.pending if size else encoded([FIELDS]) + self.pending
            try:
                _write_all(file, data)
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
        self.pending = b""

    def close(self) -> None:
        """Write what could not be written before."""
        if self.pending:
            self._flush(None)
        self.appended = False  # who logs again, may resume at an earlier step


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


class Parquet:
    """See `tangential.monitor.sinks.parquet`."""

    def __init__(self, folder: Path, weights: bool, flush_every: int) -> None:
        arrow()
        self.folder, self.weights, self.flush_every = folder, weights, flush_every
        self.pending: list[Line] = []
        self.logs, self.number, self.first, self.appended = 0, 0, -1, False
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"path must be a folder, but {folder} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        parts(folder)

    def __call__(self, values: Values, step: int) -> None:
        """Take a log."""
        step = step_number(step)
        lines = long(values, step)
        if not (self.pending or self.appended):
            self.first = step
        if not self.pending:
            atexit.register(self.close)  # for a run that ends by an exception
        self.pending += lines
        self.logs += 1
        if self.logs >= self.flush_every:
            self._flush(step)

    def _flush(self, step: int | None) -> None:
        with _explained(self.folder, step):
            if not self.appended:
                go_on_parquet(self.folder, self.first)
                self.appended = True
            while (part := self.folder / f"part-{self.number:06d}.parquet").exists():
                self.number += 1
            write_part(self.pending, part)
        self.pending, self.logs = [], 0
        atexit.unregister(self.close)

    def close(self) -> None:
        """Write what is pending."""
        if self.pending:
            self._flush(None)
        self.appended = False  # who logs again, may resume at an earlier step


def go_on_csv(path: Path, step: int) -> None:
    """Leave in a CSV file the whole lines of earlier steps, and at least its heading."""
    if path.exists():
        with warnings.catch_warnings():  # told when the sink was made
            warnings.simplefilter("ignore")
            found = kept(path, step)
        if found.end and (found.lines or not found.later):
            if found.end < path.stat().st_size:
                os.truncate(path, found.end)
            return
        if found.later:
            _set_aside(path, step)
    path.write_bytes(encoded([FIELDS]))


def go_on_parquet(folder: Path, step: int) -> None:
    """Leave in a folder the lines of earlier steps, the latest files first."""
    there, later = parts(folder), []
    for part in reversed(there):  # until one that is older: steps never fall along them
        steps = span(part)
        if steps and steps[1] < step:
            break
        later.append((part, steps is not None and steps[0] < step))
    if there and len(later) == len(there) and not any(partly for _, partly in later):
        _set_aside(folder, step)
        folder.mkdir()
        return
    for part, partly in later:
        cut_part(part, step) if partly else part.unlink()


def _set_aside(path: Path, step: int) -> None:
    """Give what an earlier run has left another name: not one of its lines is older than `step`."""
    free = next(name for name in _names(path) if not name.exists())
    path.rename(free)
    warnings.warn(
        f"{path} has no step before {step}, where this run begins: the earlier run's is {free} now",
        stacklevel=2,
    )


def _names(path: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        yield path.with_name(f"{path.stem}.{number}{path.suffix}")


@contextmanager
def _explained(path: Path, step: int | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        which = "the last logs" if step is None else f"the log of step {step}"
        then = (
            "" if step is None else ". The optimizer's step is complete; the next log tries again"
        )
        raise OSError(
            error.errno or errno.EIO,
            f"{which} could not be written: {error.strerror or error}{then}",
            str(path),
        ) from error
