"""A monitor's files in long form, CSV and Parquet: what is in them, and how to read it."""

import csv
import io
import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from tangential.monitoring.lines import FIELDS, Line

ALLOWED = f"allowed is a monitor's CSV file, which begins with {','.join(FIELDS[:3])},..., or its "
ALLOWED += "folder of Parquet files"


def read(path: str | Path) -> list[Line]:
    """The lines of a monitor's CSV file or of its folder of Parquet files.

    Args:
        path: File or folder. A last line of CSV that is not whole is left out with a warning.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no monitor's, or has other columns.
        ModuleNotFoundError: a Parquet folder, and pyarrow is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "run.csv")
    ...     _ = file.write_bytes(encoded([FIELDS]) + encoded([cells({"step": 3, "label": "all"})]))
    ...     read(file)
    [{'step': 3, 'label': 'all'}]
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there, {ALLOWED}")
    if path.is_dir():
        return [line for part in parts(path) for line in read_part(part)]
    return read_csv(path)


# ---- CSV


def cells(line: Line) -> list[Any]:
    """The cells of a line in their order; what was not logged is empty."""
    return [line.get(field) for field in FIELDS]


def encoded(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows as bytes of CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def read_csv(path: Path) -> list[Line]:
    """The lines of a CSV file that are whole; a warning, where the last one is not."""
    data = path.read_bytes()
    whole, newline, rest = data.rpartition(b"\n")
    if not newline and encoded([FIELDS]).startswith(rest):
        return []  # empty, or cut off within its heading
    try:
        rows = list(csv.reader(io.StringIO((whole + newline).decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        rows = []
    if not rows or tuple(rows[0]) != FIELDS:
        raise ValueError(f"{path} is no monitor's file or has other columns, {ALLOWED}")
    cut = bool(rest)
    if len(rows[-1]) < len(FIELDS):  # within a label that has line breaks
        cut = bool(rows.pop())
    if cut:
        warnings.warn(f"{path}: the last line is cut off and was left out", stacklevel=2)
    return [_line(row, path, number) for number, row in enumerate(rows[1:], 2)]


def _line(row: list[str], path: Path, number: int) -> Line:
    try:
        named = dict(zip(FIELDS, row, strict=True))
        line: Line = {"step": int(named.pop("step")), "label": named.pop("label")}
        return line | {name: float(cell) for name, cell in named.items() if cell}
    except ValueError:
        raise ValueError(
            f"{path}: row {number} is {','.join(row)[:80]!r}, allowed are {len(FIELDS)} cells: "
            "a step, a label, and numbers"
        ) from None


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
        except (OSError, ValueError):
            ours = False
        if not ours:
            raise ValueError(f"{path} is no monitor's file or has other columns, {ALLOWED}")
    return found


def read_part(path: Path) -> list[Line]:
    """The lines of a Parquet file."""
    rows = arrow().ParquetFile(path).read().to_pylist()
    return [{name: cell for name, cell in row.items() if cell is not None} for row in rows]


def write_part(lines: list[Line], path: Path) -> None:
    """Write lines as a Parquet file, which is there whole or not at all."""
    import pyarrow as pa

    rows = [{field: line.get(field) for field in FIELDS} for line in lines]
    table = pa.Table.from_pylist(rows, schema=_schema())
    replace(path, lambda aside: arrow().write_table(table, aside))


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file aside and rename it: whoever reads it sees the old or the new one whole."""
    aside = path.with_name(f".{path.name}.new")
    try:
        write(aside)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
