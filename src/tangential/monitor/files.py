"""A monitor's files in long form, CSV and Parquet: what is in them, and how to read it.

A file may be larger than memory has room for: it is read line by line, and where a run goes on in
it, from its end.
"""

import codecs
import csv
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from tangential.files import write_atomically
from tangential.monitor.lines import FIELDS, Line
from tangential.names import FORMULA

FOREIGN = "was not written by Monitor, or has other columns. Pass a CSV file written by Monitor, "
FOREIGN += f"which begins with {','.join(FIELDS[:3])},..., or its folder of Parquet files"
MARK = codecs.BOM_UTF8  # with which Excel begins a "CSV UTF-8" file

LONGEST = 2**20  # bytes of a line of CSV
BLOCK = 2**18  # bytes that are read at once from the end
BATCH = 2**12  # lines of Parquet that are in memory at once
STEPS = range(-(2**63), 2**63)


def read(path: str | Path) -> list[Line]:
    """The lines of a monitor's CSV file or of its folder of Parquet files; see `stream`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "run.csv")
    ...     _ = file.write_bytes(encoded([FIELDS]) + encoded([cells({"step": 3, "label": "all"})]))
    ...     read(file)
    [{'step': 3, 'label': 'all'}]
    """
    return [*stream(path)]


def stream(path: str | Path) -> Iterator[Line]:
    """The lines of a file or folder, one after another.

    Args:
        path: File or folder. A last line of CSV that is not whole is left out with a warning.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no monitor's, has other columns, or is damaged.
        ModuleNotFoundError: a Parquet folder, and pyarrow is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"No such file: {path}. Pass a file written by Monitor, or its folder of Parquet files"
        )
    if path.is_dir():
        for part in parts(path):
            yield from read_part(part)
        return
    with path.open("rb") as file:
        start = heading(file, path)
        if start:
            for line, _ in whole_lines(file, path, start):
                yield line


# ---- CSV


def cells(line: Line) -> list[Any]:
    """The cells of a line in their order; what was not logged is empty."""
    return [line["step"], _neutral(line["label"]), *(line.get(field) for field in FIELDS[2:])]


def _neutral(label: str) -> str:
    """A label that no spreadsheet takes for a formula; `_label` has it back."""
    return f"'{label}" if label.lstrip("'").startswith(FORMULA) else label


def _label(cell: str) -> str:
    quoted = cell.startswith("'") and cell.lstrip("'").startswith(FORMULA)
    return cell[1:] if quoted else cell


def encoded(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows as bytes of CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


class Record(NamedTuple):
    """The cells of a record, where it ends in the file, and whether its last line is whole."""

    cells: list[str]
    end: int
    whole: bool


def heading(file: BinaryIO, path: Path) -> int:
    """Where the first line begins; 0 if the file is empty or cut off within its heading.

    Raises:
        ValueError: the file begins otherwise.
    """
    first = file.readline(LONGEST)
    text = first.removeprefix(MARK)
    if not text.endswith(b"\n") and encoded([FIELDS]).startswith(text):
        return 0
    try:
        ours = tuple(next(csv.reader([text.decode()]), ())) == FIELDS and text.endswith(b"\n")
    except (UnicodeDecodeError, csv.Error):
        ours = False
    if not ours:
        raise ValueError(f"{path} {FOREIGN}")
    return len(first)


def records(file: BinaryIO, path: Path, start: int, *, counted: bool) -> Iterator[Record]:
    """The records from byte `start` on, where the file is read next; see `whole_lines`."""
    end, whole, row = start, True, 2

    def lines() -> Iterator[str]:
        nonlocal end, whole
        while data := file.readline(LONGEST):
            end, whole = end + len(data), data.endswith(b"\n")
            if len(data) == LONGEST and not whole:
                raise csv.Error(f"it is longer than {LONGEST:,} bytes")
            yield data.decode(errors="strict" if whole else "replace")

    try:
        for cells_ in csv.reader(lines()):
            yield Record(cells_, end, whole)
            row += 1
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"{path}: {_place(row, counted)} has the byte 0x{byte:02x}, which is not UTF-8 text"
        ) from None
    except csv.Error as error:
        raise ValueError(f"{path}: {_place(row, counted)} is not valid CSV: {error}") from None


def _place(row: int, counted: bool) -> str:
    return f"row {row}" if counted else "a row at its end"


def whole_lines(
    file: BinaryIO, path: Path, start: int, *, counted: bool = True
) -> Iterator[tuple[Line, int]]:
    """Lines and where each ends, from byte `start` on; a warning where the last one is cut off.

    Args:
        file: Is read next at `start`.
        path: Its path, for messages.
        start: Where a line begins.
        counted: Whether that is the first line after the heading, so that row numbers are known.

    Raises:
        ValueError: a line is no monitor's.
    """
    rest = records(file, path, start, counted=counted)
    for row, record in enumerate(rest, 2):
        cut = not record.whole or len(record.cells) < len(FIELDS)  # within a label of two lines
        if cut and next(rest, None) is None:
            warnings.warn(f"{path}: the last line is cut off and was left out", stacklevel=2)
            return
        try:
            yield parsed(record.cells), record.end
        except ValueError:
            raise ValueError(
                f"{path}: {_place(row, counted)} is {','.join(record.cells)[:80]!r}. Expected "
                f"{len(FIELDS)} cells: a step, a label, and numbers"
            ) from None


def parsed(row: list[str]) -> Line:
    """The line that a record is.

    Raises:
        ValueError: it is none.
    """
    step, label, *numbers = row
    if len(row) != len(FIELDS) or int(step) not in STEPS:
        raise ValueError
    line: Line = {"step": int(step), "label": _label(label)}
    line.update((name, float(x)) for name, x in zip(FIELDS[2:], numbers, strict=True) if x)
    return line


class Kept(NamedTuple):
    """How many bytes of a file hold its heading and whole lines of steps before one.

    Attributes:
        end: In bytes; 0 if even the heading is not whole.
        lines: Whether there are any.
        later: Whether there are lines of that step or later ones.
    """

    end: int
    lines: bool
    later: bool


def kept(path: Path, before: float) -> Kept:
    """What of a CSV file is older than a step, by its heading and its end.

    Steps never fall along a monitor's file, so the first later line ends what is kept.

    Raises:
        ValueError: the file is no monitor's.
    """
    with path.open("rb") as file:
        start = heading(file, path)
        if not start:
            return Kept(0, False, False)
        end = _last_before(file, path, start, before)
        lines = end > start
        file.seek(end)
        for line, after in whole_lines(file, path, end, counted=not lines):
            if line["step"] >= before:
                return Kept(end, lines, True)
            end, lines = after, True
        return Kept(end, lines, False)


def _last_before(file: BinaryIO, path: Path, start: int, before: float) -> int:
    """Where the last line of an earlier step begins, among lines that are surely whole."""
    stop, tail = file.seek(0, os.SEEK_END), b""
    while stop > start:
        begin = max(start, stop - BLOCK)
        file.seek(begin)
        data = file.read(stop - begin) + tail
        first = 0 if begin == start else data.find(b"\n") + 1
        end = data.rfind(b"\n")
        while end >= first:
            previous = data.rfind(b"\n", first, end)
            line = first if previous < 0 else previous + 1
            if _is_before(data[line:end], before):
                return begin + line
            end = previous if previous >= 0 else first - 1
        stop, tail = begin, data[:first] or data
        if len(tail) > LONGEST:
            break
    return start


def _is_before(line: bytes, before: float) -> bool:
    """Whether this is a whole record, which no part of a quoted label looks like, and earlier."""
    try:
        return b'"' not in line and parsed(line.decode().split(","))["step"] < before
    except ValueError:
        return False


# ---- Parquet


def arrow() -> ModuleType:
    """pyarrow.parquet, or an error that says how to come by it."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet needs pyarrow: run pip install 'tangential[lab]'", name=error.name
        ) from error
    return pyarrow.parquet


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"step": pa.int64(), "label": pa.string()}
    return pa.schema([(field, kinds.get(field, pa.float64())) for field in FIELDS])


def parts(folder: Path) -> list[Path]:
    """The files of a folder in their order, each of which is a monitor's; hidden ones aside."""
    parquet = arrow()
    found = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    for path in found:
        try:
            ours = parquet.read_schema(path).equals(_schema())
        except (OSError, ValueError, _damage()):
            ours = False
        if not ours:
            raise ValueError(f"{path} {FOREIGN}")
    return found


def read_part(path: Path) -> Iterator[Line]:
    """The lines of a Parquet file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        for batch in arrow().ParquetFile(path).iter_batches(BATCH):
            for row in batch.to_pylist():
                yield {name: cell for name, cell in row.items() if cell is not None}
    except (OSError, ValueError, _damage()) as error:
        raise ValueError(f"{path} is damaged: {str(error).partition(chr(10))[0]}") from error


def _damage() -> type[Exception]:
    import pyarrow as pa

    return pa.ArrowException


def span(path: Path) -> tuple[int, int] | None:
    """The first and the last step of a Parquet file; None of an empty one."""
    from pyarrow import compute

    steps = compute.min_max(arrow().read_table(path, columns=["step"])["step"]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    return None if steps["min"] is None else (steps["min"], steps["max"])


def cut_part(path: Path, step: int) -> None:
    """Leave in a Parquet file the lines of earlier steps."""
    from pyarrow import compute

    table = arrow().ParquetFile(path).read()
    left = table.filter(compute.less(table["step"], step))  # pyright: ignore[reportAttributeAccessIssue]
    with write_atomically(path, "wb") as file:
        arrow().write_table(left, file)


def write_part(lines: list[Line], path: Path) -> None:
    """Write lines as a Parquet file, which is there whole or not at all."""
    import pyarrow as pa

    rows = [{field: line.get(field) for field in FIELDS} for line in lines]
    table = pa.Table.from_pylist(rows, schema=_schema())
    with write_atomically(path, "wb") as file:
        arrow().write_table(table, file)
