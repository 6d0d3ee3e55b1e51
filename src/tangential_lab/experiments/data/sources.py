"""Where data lie, what identifies them, and arrays made from them once."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import numpy as np
from platformdirs import user_cache_path

from tangential_lab.training import DataSource

WHOLE = 4 << 30  # bytes of files that are read for a checksum; of more, names and sizes

# what readers raise where a file is not what they expect
FAULTS = (OSError, ValueError, LookupError, TypeError, EOFError, NotImplementedError)
FAULTS += (BadZipFile, zlib.error)

Arrays = dict[str, np.ndarray]


class DataError(ValueError):
    """Data that are not where they were looked for."""


def folder(data: Path | None) -> Path | None:
    """The folder that holds a folder for each data set: `data`, or TANGENTIAL_DATA, or None.

    Raises:
        DataError: it is named and not there.
    """
    named = data or (Path(text) if (text := os.environ.get("TANGENTIAL_DATA")) else None)
    if named is not None and not named.is_dir():
        raise DataError(f"--data (or TANGENTIAL_DATA) is {str(named)!r}, which is no folder")
    return named


def found(data: Path | None, name: str, files: Iterable[str], whence: str) -> list[Path] | None:
    """The files of data set `name` in the folder of data sets; None where there is no such folder.

    Args:
        data: As `folder` takes it.
        name: Of the data set, a folder there.
        files: Paths in it that must be there.
        whence: Where to get it, for the error.

    Raises:
        DataError: the folder is there and a file is not.
    """
    where = folder(data)
    if where is None or not (where / name).is_dir():
        return None
    paths = [where / name / file for file in files]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is missing: {name} needs {', '.join(files)}. {whence}")
    return paths


def needed(data: Path | None, name: str, files: Iterable[str], whence: str) -> list[Path]:
    """The files of a data set, as `found` finds them.

    Raises:
        DataError: the folder or a file is not there.
    """
    files = list(files)
    paths = found(data, name, files, whence)
    if paths is None:
        where = folder(data)
        looked = f"{where} has no folder {name!r}" if where else "no folder of data sets is named"
        raise DataError(
            f"{looked}: --data DIR (or TANGENTIAL_DATA) with DIR/{name}/{{{','.join(files)}}} "
            f"is needed. {whence}"
        )
    return paths


def described(about: str, paths: Iterable[Path]) -> DataSource:
    """Data with the checksum of their files."""
    return DataSource(about, checksum(paths))


def checksum(paths: Iterable[Path]) -> str:
    """16 hex digits of sha256 over the files, or, past 4 GiB, over their names and sizes."""
    files = sorted(p for path in paths for p in ([path] if path.is_file() else path.rglob("*")))
    files = [p for p in files if p.is_file()]
    sizes = [p.stat().st_size for p in files]
    whole, digest = sum(sizes) <= WHOLE, sha256()
    for path, size in zip(files, sizes, strict=True):
        digest.update(f"{path.name} {size}\n".encode())
        if whole:
            with path.open("rb") as file:
                digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def downloads() -> Path:
    """Where libraries put what they download."""
    return user_cache_path("tangential") / "downloads"


@contextmanager
def explained(name: str, home: Path, whence: str) -> Iterator[None]:
    """Errors of a library that looks for data, as errors that say what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} in {home} cannot be had: {error} {whence}") from error


@contextmanager
def read_as(kind: str, path: Path, whence: str) -> Iterator[None]:
    """Errors that a file's content raises, as errors that name it and what it should be."""
    try:
        yield
    except DataError:  # which names it
        raise
    except FAULTS as error:
        raise DataError(f"{path} is no {kind}: {error}. {whence}") from error


def prepared(name: str, data: DataSource, make: Callable[[], Arrays]) -> Arrays:
    """What `make` makes of the data, made once and then mapped from the user's cache, read-only.

    Args:
        name: Of the preparation and all its settings, such as "cifar10-10000-32": part of the
            file's name, with the checksum of the data.
        data: What it is made of.
        make: Arrays by name.
    """
    home = user_cache_path("tangential") / "prepared"
    place = home / f"{name}-{data.checksum}"
    if not place.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=home) as aside:
            whole = Path(aside) / "whole"
            whole.mkdir()
            for key, array in make().items():
                np.save(whole / f"{key}.npy", array)
            try:
                whole.rename(place)
            except OSError:  # where another process was faster
                if not place.is_dir():
                    raise
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(place.glob("*.npy"))}
