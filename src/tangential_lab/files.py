"""Checks before the work starts that outputs can be written, so that no result is lost."""

import os
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
    check_writable(folder / f".{os.getpid()}.partial")
