"""A monitor's folder of Parquet files: reading, appending, resuming."""

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

from tangential.files import write_atomically
from tangential.monitor.sinks.file_sink import FOREIGN, FileSink
from tangential.monitor.sinks.lines import FIELDS, Line

BATCH = 2**12  # lines in memory at a time


def parquet(path: str | Path, weights: bool = True, *, flush_every: int = 20) -> "Parquet":
    """A folder of Parquet files that pyarrow and pandas read as one data set, columns as in `csv`.

    The folder can be read at any time; a resumed run appends to it. If the process is killed, the
    logs since the last flush are lost; if it ends with an exception, they are written.

    Args:
        path: The folder; it is created if it does not exist.
        weights: Also write a line for every weight.
        flush_every: Number of logs per file, >= 1.

    Raises:
        ValueError: `flush_every` is out of range, or the folder has other files.
        ModuleNotFoundError: pyarrow is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sink = parquet(folder)
    ...     sink({"all/norm": 2.0}, 0)
    ...     sink.close()
    ...     [file.name for file in Path(folder).iterdir()]
    ['part-000000.parquet']
    """
    if not isinstance(flush_every, Integral) or flush_every < 1:
        raise ValueError(f"flush_every must be an integer >= 1, got {flush_every!r}")
    return Parquet(Path(path), weights, int(flush_every))


class Parquet(FileSink):
    """See `parquet`."""

    def __init__(self, folder: Path, weights: bool, flush_every: int) -> None:
        super().__init__(folder, weights, flush_every)
        _pyarrow()
        self.number = 0
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"path must be a folder, but {folder} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        _parts(folder)

    def earliest_step(self) -> int | None:
        """The first step of the first file that has lines."""
        return next((min(steps) for part in _parts(self.path) if (steps := _steps(part))), None)

    def drop_from(self, step: int) -> None:
        """Delete or shorten the files with lines of `step` or later, the latest file first."""
        self.path.mkdir(exist_ok=True)
        for part in reversed(_parts(self.path)):
            steps = _steps(part)
            if steps and max(steps) < step:
                break
            if not steps or min(steps) >= step:
                part.unlink()
            else:
                table = _pyarrow().ParquetFile(part).read()
                _write(table.filter([logged < step for logged in steps]), part)

    def append(self, lines: list[Line]) -> None:
        """Write the lines as one more file."""
        import pyarrow as pa

        while (part := self.path / f"part-{self.number:06d}.parquet").exists():
            self.number += 1
        rows = [{field: line.get(field) for field in FIELDS} for line in lines]
        _write(pa.Table.from_pylist(rows, schema=_schema()), part)


def read_parquet(folder: Path) -> Iterator[Line]:
    """Read the lines of a monitor's folder of Parquet files, one by one.

    Raises:
        ValueError: a file was not written by a monitor, or is damaged.
        ModuleNotFoundError: pyarrow is not installed.
    """
    for part in _parts(folder):
        try:
            for batch in _pyarrow().ParquetFile(part).iter_batches(BATCH):
                for row in batch.to_pylist():
                    yield {name: cell for name, cell in row.items() if cell is not None}
        except (OSError, ValueError, _arrow_error()) as error:
            raise ValueError(f"{part} is damaged: {str(error).partition(chr(10))[0]}") from error


def _parts(folder: Path) -> list[Path]:
    """The files of a folder, in order, without hidden ones.

    Raises:
        ValueError: a file was not written by a monitor.
    """
    parts = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    for part in parts:
        try:
            ours = _pyarrow().read_schema(part).equals(_schema())
        except (OSError, ValueError, _arrow_error()):
            ours = False
        if not ours:
            raise ValueError(f"{part} {FOREIGN}")
    return parts


def _steps(part: Path) -> list[int]:
    return _pyarrow().read_table(part, columns=["step"])["step"].to_pylist()


def _write(table: Any, part: Path) -> None:
    with write_atomically(part, "wb") as file:
        _pyarrow().write_table(table, file)


def _pyarrow() -> ModuleType:
    """pyarrow.parquet, or an error that tells how to install it."""
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


def _arrow_error() -> type[Exception]:
    import pyarrow as pa

    return pa.ArrowException
