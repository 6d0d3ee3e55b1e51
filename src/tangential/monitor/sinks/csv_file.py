"""A monitor's CSV file, which may be larger than memory: reading, appending, resuming."""

import csv
import io
import os
import warnings
from codecs import BOM_UTF8  # Excel begins a "CSV UTF-8" file with it
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tangential.monitor.sinks.file_sink import FOREIGN, FileSink
from tangential.monitor.sinks.rows import FIELDS, Row
from tangential.names import FORMULA

LONGEST = 2**20  # maximum number of bytes in a line


class Csv(FileSink):
    """A CSV file with one row for every step and label.

    A log is in the file when its step ends; a resumed run appends to its file. A cell is empty
    where a value is undefined or was not logged, and "nan" where a weight or gradient is not
    finite. A label that a spreadsheet would run as a formula, because it begins with =, +, - or @,
    gets a single quote in front; Tangential removes it when it reads the file.

    Args:
        path: The file; its folder is created if it does not exist.
        weights: Also write a row for every weight.

    Raises:
        ValueError: the path is a folder, or the file was not written by a monitor.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Csv(Path(folder, "run.csv"))({"all/norm": 2.0}, 0)
    ...     print(Path(folder, "run.csv").read_text().splitlines()[1][:10])
    0,all,2.0,
    """

    def __init__(self, path: str | Path, weights: bool = True) -> None:
        super().__init__(path := Path(path), weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ValueError(f"path must be a file, but {path} is {kind}")
        if path.exists():
            for _ in read_csv(path):  # it must be a monitor's
                pass

    def drop_from(self, step: int) -> bool:
        """Cut off the file after the last row of an earlier step."""
        end, empty = 0, True
        for row, row_end in _rows_with_ends(self.path):
            empty = False
            if row["step"] < step:
                end = row_end
        if end or empty:
            os.truncate(self.path, end)
        return bool(end) or empty

    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def append(self, rows: list[Row]) -> None:
        """Write all rows or none: part of a row would spoil the next one."""
        with self.path.open("ab", buffering=0) as file:
            size = file.tell()
            records = [cells(row) for row in rows]
            try:
                _write_all(file, encoded(records if size else [FIELDS, *records]))
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def encoded(records: Iterable[Iterable[Any]]) -> bytes:
    """Records as bytes of CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(records)
    return text.getvalue().encode()


def cells(row: Row) -> list[Any]:
    """The cells of a row, in order; empty where a value was not logged."""
    label = row["label"]
    quote = "'" if label.lstrip("'").startswith(FORMULA) else ""
    return [row["step"], quote + label, *(row.get(field) for field in FIELDS[2:])]


def _row(record: list[str]) -> Row:
    """The row with these cells; ValueError if they are not a step, a label and numbers."""
    step, label, *numbers = record
    if label.startswith("'") and label.lstrip("'").startswith(FORMULA):
        label = label[1:]
    known = {name: float(x) for name, x in zip(FIELDS[2:], numbers, strict=True) if x}
    return {"step": int(step), "label": label, **known}


def read_csv(path: Path) -> Iterator[Row]:
    """Read the rows of a monitor's CSV file one by one; an incomplete last row only warns."""
    return (row for row, _ in _rows_with_ends(path))


def _has_row(record: list[str]) -> bool:
    """Whether a cell contains a whole row, because a quotation mark before it is never closed."""
    parts = (line for cell in record if "\n" in cell for line in cell.splitlines())
    return any(line.count(",") >= len(FIELDS) - 1 for line in parts)


def _rows_with_ends(path: Path) -> Iterator[tuple[Row, int]]:
    """Read the rows, with the byte at which each ends; warn if the last one is incomplete."""
    complete, number, record = True, 2, []

    def lines() -> Iterator[str]:
        nonlocal complete
        while data := file.readline(LONGEST):
            complete = data.endswith(b"\n")
            if len(data) == LONGEST and not complete:
                raise csv.Error(f"it is longer than {LONGEST:,} bytes")
            yield data.decode(errors="strict" if complete else "replace")

    with path.open("rb") as file:
        header = file.readline(LONGEST).removeprefix(BOM_UTF8).replace(b'"', b"")
        if not encoded([FIELDS]).startswith(header.replace(b"\r\n", b"\n")):
            raise ValueError(f"{path} {FOREIGN}")
        records = csv.reader(lines())
        try:
            for record in filter(None, records):  # an editor may leave blank lines
                end, short = file.tell(), len(record) < len(FIELDS)  # short: ends within a label
                if _has_row(record):
                    raise csv.Error("a quotation mark in it is never closed")
                if (short or not complete) and next(records, None) is None:
                    note = f"{path}: the last line is cut off and was left out"
                    warnings.warn(note, stacklevel=2)
                    return
                yield _row(record), end
                number += 1
        except (ValueError, csv.Error) as error:
            reason = _why_unreadable(error, record)
            raise ValueError(f"{path}: row {number} {reason}") from None


def _why_unreadable(error: Exception, record: list[str]) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"has the byte 0x{error.object[error.start]:02x}, which is not UTF-8 text"
    if isinstance(error, csv.Error):
        return f"is not valid CSV: {error}"
    text = ",".join(record)[:80]
    return (
        f"is {text!r}. Expected {len(FIELDS)} cells: a step, a label, and numbers. Delete this row "
        "if a process was stopped while it wrote"
    )
