"""A monitor's folder of Parquet files: reading, appending, resuming."""

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

from tangential.files import write_atomically
from tangential.monitor.sinks.file_sink import FOREIGN, FileSink
from tangential.monitor.sinks.rows import FIELDS, Row

BATCH = 2**12  # rows in memory at a time


class Parquet(FileSink):
    """A folder of Parquet files that pyarrow and pandas read as one data set, columns as in `csv`.

    The folder can be read at any time; a resumed run appends to it. If the process is killed, the
    logs since the last flush are lost; if it ends with an exception, they are written.

    Args:
        path: The folder; it is created if it does not exist.
        weights: Also write a row for every weight.
        flush_every: Number of logs per file, >= 1.

    Raises:
        ValueError: `flush_every` is out of range, or the folder has other files.
        ModuleNotFoundError: pyarrow is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sink = Parquet(folder)
    ...     sink({"all/norm": 2.0}, 0)
    ...     sink.close()
    ...     [file.name for file in Path(folder).iterdir()]
    ['part-000000.parquet']
    """

    def __init__(self, path: str | Path, weights: bool = True, *, flush_every: int = 20) -> None:
        if not isinstance(flush_every, Integral) or flush_every < 1:
            raise ValueError(f"flush_every must be an integer >= 1, got {flush_every!r}")
        super().__init__(folder := Path(path), weights, int(flush_every))
        _pyarrow()
        self.number = 0
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"path must be a folder, but {folder} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        _parts(folder)

    def drop_from(self, step: int) -> bool:
        """Delete or shorten the files with rows of `step` or later, the latest file first."""
        parts = _parts(self.path)
        first = next((steps[0] for part in parts if (steps := _steps(part))), step - 1)
        if first >= step:
            return False
        for part in reversed(parts):
            earlier = [logged < step for logged in _steps(part)]
            if not any(earlier):
                part.unlink()
            elif not all(earlier):
                _write(_pyarrow().parquet.ParquetFile(part).read().filter(earlier), part)
            else:
                break
        return True

    def size(self) -> int:
        """Files in the folder."""
        return len(_files(self.path))

    def append(self, rows: list[Row]) -> None:
        """Write the rows as one more file."""
        self.path.mkdir(exist_ok=True)
        while (part := self.path / f"part-{self.number:06d}.parquet").exists():
            self.number += 1
        _write(_pyarrow().Table.from_pylist(rows, schema=_schema()), part)


def read_parquet(folder: Path) -> Iterator[Row]:
    """Read the rows of a monitor's folder of Parquet files, one by one."""
    pa = _pyarrow()
    for part in _parts(folder):
        try:
            for batch in pa.parquet.ParquetFile(part).iter_batches(BATCH):
                for row in batch.to_pylist():
                    yield {name: cell for name, cell in row.items() if cell is not None}
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ValueError(f"{part} is damaged: {str(error).partition(chr(10))[0]}") from error


def _parts(folder: Path) -> list[Path]:
    """The files of a folder, in order, without hidden ones; all must be a monitor's."""
    pa, parts = _pyarrow(), _files(folder)
    for part in parts:
        try:
            ours = pa.parquet.read_schema(part).equals(_schema())
        except (OSError, ValueError, pa.ArrowException):
            ours = False
        if not ours:
            raise ValueError(f"{part} {FOREIGN}")
    return parts


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] not in "._")


def _steps(part: Path) -> list[int]:
    return _pyarrow().parquet.read_table(part, columns=["step"])["step"].to_pylist()


def _write(table: Any, part: Path) -> None:
    with write_atomically(part, "wb") as file:
        _pyarrow().parquet.write_table(table, file)


def _schema() -> Any:
    pa = _pyarrow()
    kinds = {"step": pa.int64(), "label": pa.string()}
    return pa.schema([(field, kinds.get(field, pa.float64())) for field in FIELDS])


def _pyarrow() -> Any:
    """Pyarrow with its module `parquet`, or an error that tells how to install it."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet needs pyarrow: run pip install 'tangential[lab]'", name=error.name
        ) from error
    return pyarrow
