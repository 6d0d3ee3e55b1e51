"""Unpacks archives from the internet: no file goes outside the folder, and no link is made."""

import gzip
import lzma
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from tangential_lab.experiments.data.sources import DataError

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz")
COPIED_BYTES = 1 << 20  # at once
DAMAGED = (BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


class Member(NamedTuple):
    """A part of an archive."""

    name: str
    is_folder: bool
    is_file: bool  # neither: a link, or a device
    open: Callable[[], IO[bytes] | None]


def is_archive(name: str) -> bool:
    """Whether `unpack` can unpack a file of this name."""
    return name.endswith((*ZIP, *TAR))


def unpack(
    archive: Path, folder: Path, root: str = ".", on_file: Callable[[], Any] = lambda: None
) -> None:
    """Write the files of an archive into a folder.

    Args:
        archive: A .zip, .tar, .tar.gz or .tgz.
        folder: Exists; files are added.
        root: The folder inside the archive whose content is written; other members are left out.
        on_file: Called after each file.

    Raises:
        DataError: the archive is damaged, or contains a link, a device, a path outside the folder,
            or a file that exists already.
    """
    members = _zip_members if archive.name.endswith(ZIP) else _tar_members
    with _explain_damage(archive):
        for member in members(archive):
            path = _path_inside(member.name, archive)
            if not (member.is_file or member.is_folder):
                raise DataError(
                    f"{archive} contains {member.name!r}, which is not a regular file: refused"
                )
            if not path.is_relative_to(root) or member.is_folder:
                continue
            target = folder / path.relative_to(root)
            if target.exists():
                raise DataError(f"{archive} contains {member.name!r} twice: refused")
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(member.open, target)
            on_file()


def decompress(compressed: Path, target: Path) -> None:
    """Write the content of a .gz file, or raise a DataError if it is damaged."""
    with _explain_damage(compressed):
        _write(partial(gzip.open, compressed), target)


def _path_inside(name: str, archive: Path) -> PurePosixPath:
    """The path of a member, also safe where Windows would split it at backslashes."""
    windows = PureWindowsPath(name)
    if windows.anchor or ".." in windows.parts or "\0" in name:
        raise DataError(f"{archive} contains {name!r}, which is outside of its folder: refused")
    return PurePosixPath(name)


def _write(opened: Callable[[], Any], target: Path) -> None:
    with opened() as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, COPIED_BYTES)


def _zip_members(path: Path) -> Iterator[Member]:
    with ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if it was packed without Unix modes
            is_file = kind in (0, stat.S_IFREG) and not info.is_dir()
            yield Member(info.filename, info.is_dir(), is_file, partial(archive.open, info))


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            read = partial(archive.extractfile, info)
            yield Member(info.name, info.isdir(), info.isreg(), read)


@contextmanager
def _explain_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:  # encrypted: RuntimeError
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot unpack {archive}: {reason}") from error
