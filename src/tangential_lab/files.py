"""Checks before the work starts that outputs can be written, so that no result is lost."""

import os
from contextlib import suppress
from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise now the OSError that writing to `path` would raise later; the file is not changed."""
    is_new = not os.path.lexists(path)
    with path.open("a"):
        pass
    if is_new:
        path.unlink()


def make_writable_folder(folder: Path) -> None:
    """Make the folder; raise now the OSError that writing a file into it would raise later."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check_writable(folder / f".{os.getpid()}.partial")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(folder)) from error


def check_folder(folder: Path) -> None:
    """Raise now the OSError that `make_writable_folder` would raise later; nothing is left."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_writable_folder(folder)
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
