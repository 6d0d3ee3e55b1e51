"""A monitor's CSV file, which may be larger than memory: reading, appending, resuming."""

import csv as csv_module
import io
import math
import os
import warnings
from codecs import BOM_UTF8  # Excel begins a "CSV UTF-8" file with it
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from tangential.monitor.sinks.file_sink import FOREIGN, FileSink
from tangential.monitor.sinks.lines import FIELDS, Line
from tangential.names import FORMULA

LONGEST = 2**20  # maximum number of bytes in a line


def csv(path: str | Path, weights: bool = True) -> "Csv":
    """A CSV file in long form: one line for every step and label.

    A log is in the file when its step ends; a resumed run appends to its file. A cell is empty
    where a value is undefined or was not logged, and "nan" where a weight or gradient is not
    finite. A label that a spreadsheet would run as a formula, because it begins with =, +, - or @,
    gets a single quote in front; Tangential removes it when it reads the file.

    Args:
        path: The file; its folder is created if it does not exist.
        weights: Also write a line for every weight.

    Raises:
        ValueError: the path is a folder, or the file was not written by a monitor.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     csv(Path(folder, "run.csv"))({"all/norm": 2.0}, 0)
    ...     print(Path(folder, "run.csv").read_text().splitlines()[1][:10])
    0,all,2.0,
    """
    return Csv(Path(path), weights)


class Csv(FileSink):
    """See `csv`."""

    def __init__(self, path: Path, weights: bool) -> None:
        super().__init__(path, weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ValueError(f"path must be a file, but {path} is {kind}")
        if path.exists():
            _end_of_earlier(path, math.inf)

    def earliest_step(self) -> int | None:
        """The step of the first line."""
        if not self.path.exists():
            return None
        with _silent():
            line = next(read_csv(self.path), None)
        return line["step"] if line else None

    def drop_from(self, step: int) -> None:
        """Cut off the file after the last line of an earlier step."""
        end = 0
        if self.path.exists():
            with _silent():
                end = _end_of_earlier(self.path, step)
        if not end:
            self.path.write_bytes(encoded([FIELDS]))
        elif end < self.path.stat().st_size:
            os.truncate(self.path, end)

    def append(self, lines: list[Line]) -> None:
        """Write all lines or none: part of a line would spoil the next one."""
        with self.path.open("ab", buffering=0) as file:
            size = file.tell()
            rows = [cells(line) for line in lines]
            try:
                _write_all(file, encoded(rows if size else [FIELDS, *rows]))
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise


def _silent() -> warnings.catch_warnings:
    """Ignore warnings, because the user saw them when the sink was created."""
    return warnings.catch_warnings(action="ignore")


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


# ---- cells


def cells(line: Line) -> list[Any]:
    """The cells of a line, in order; empty where a value was not logged."""
    label = line["label"]
    quote = "'" if label.lstrip("'").startswith(FORMULA) else ""
    return [line["step"], quote + label, *(line.get(field) for field in FIELDS[2:])]


def _parsed(row: list[str]) -> Line:
    """Parse the cells of a row into a line.

    Raises:
        ValueError: the cells are not a step, a label and numbers.
    """
    step, label, *numbers = row
    if len(row) != len(FIELDS):
        raise ValueError
    if label.startswith("'") and label.lstrip("'").startswith(FORMULA):
        label = label[1:]
    known = {name: float(x) for name, x in zip(FIELDS[2:], numbers, strict=True) if x}
    return {"step": int(step), "label": label, **known}


def encoded(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows as bytes of CSV."""
    text = io.StringIO(newline="")
    csv_module.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


# ---- reading


def read_csv(path: Path) -> Iterator[Line]:
    """Read the lines of a monitor's CSV file, one by one.

    Raises:
        ValueError: a line was not written by a monitor. An incomplete last line only warns.
    """
    with path.open("rb") as file:
        for line, _ in _lines(file, path):
            yield line


def _end_of_earlier(path: Path, step: float) -> int:
    """The end of the last line of an earlier step, in bytes; 0 if the header is incomplete."""
    with path.open("rb") as file:
        end = _header_size(file, path)
        file.seek(0)
        for line, line_end in _lines(file, path):
            if line["step"] < step:
                end = line_end
        return end


def _header_size(file: BinaryIO, path: Path) -> int:
    """The size of the header in bytes; 0 if the file ends within the header.

    Raises:
        ValueError: the file has another header.
    """
    first = file.readline(LONGEST)
    text = first.removeprefix(BOM_UTF8)
    if not text.endswith(b"\n") and encoded([FIELDS]).startswith(text):
        return 0
    try:
        ours = tuple(next(csv_module.reader([text.decode()]), ())) == FIELDS
    except (UnicodeDecodeError, csv_module.Error):
        ours = False
    if not (ours and text.endswith(b"\n")):
        raise ValueError(f"{path} {FOREIGN}")
    return len(first)


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[Line, int]]:
    """Read the lines, with the byte at which each ends; warn if the last one is incomplete.

    Raises:
        ValueError: the header or a line was not written by a monitor.
    """
    end, complete, row, record = _header_size(file, path), True, 2, []

    def decoded() -> Iterator[str]:
        nonlocal end, complete
        while data := file.readline(LONGEST):
            end, complete = end + len(data), data.endswith(b"\n")
            if len(data) == LONGEST and not complete:
                raise csv_module.Error(f"it is longer than {LONGEST:,} bytes")
            yield data.decode(errors="strict" if complete else "replace")

    records = csv_module.reader(decoded())
    try:
        for record in records:
            line_end, short = end, len(record) < len(FIELDS)  # short: cut off within a label
            if (short or not complete) and next(records, None) is None:
                warnings.warn(f"{path}: the last line is cut off and was left out", stacklevel=2)
                return
            yield _parsed(record), line_end
            row += 1
        return
    except UnicodeDecodeError as error:
        reason = f"has the byte 0x{error.object[error.start]:02x}, which is not UTF-8 text"
    except csv_module.Error as error:
        reason = f"is not valid CSV: {error}"
    except ValueError:
        cells_ = ",".join(record)[:80]
        reason = f"is {cells_!r}. Expected {len(FIELDS)} cells: a step, a label, and numbers"
    raise ValueError(f"{path}: row {row} {reason}")
