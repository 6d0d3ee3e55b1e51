"""Files that are complete or absent, never half written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def write_atomically(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Write a temporary file, which replaces `path` once it is complete on disk.

    Its name begins with a dot, so that programs that read the folder ignore it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with write_atomically(Path(folder, "log.txt")) as file:
    ...         _ = file.write("complete")
    ...     [path.name for path in Path(folder).iterdir()]
    ['log.txt']
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    newline, encoding = (None, None) if "b" in mode else ("", "utf-8")
    try:
        with partial.open(mode, newline=newline, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):  # an error here must not hide the first one
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(partial):
            error.filename = str(path)
        raise
