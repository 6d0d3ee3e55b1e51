"""Fetches data sets: each is complete in its folder, or absent."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from itertools import count
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from tangential_lab.experiments.data.sources import DataError, DataFolder, Download
from tangential_lab.experiments.downloads.archives import decompress, is_archive, unpack
from tangential_lab.experiments.downloads.checksums import checksums, digest, record
from tangential_lab.experiments.downloads.http import (
    OnProgress,
    UnavailableError,
    download,
    explain_full_disk,
)


def part_of(folder: DataFolder, home: Path) -> Path:
    """The folder of an unfinished download, next to where the data set will be."""
    return home / f"{folder.name}.part"


def fetch(folder: DataFolder, home: Path, on_progress: OnProgress) -> None:
    """Download a data set into `home` in its published layout, unless it is there already.

    Files are downloaded and unpacked in DIR/NAME.part, which becomes DIR/NAME at the end. After an
    interruption or an error, the next call continues the download. DIR/NAME.sha256 then has the
    checksums of all files.

    Args:
        folder: The data set.
        home: Folder of all data sets; exists and is writable.
        on_progress: Called often, for a progress bar.

    Raises:
        DataError: see `is_needed`, or the server or the disk fails, or what arrived is not what
            was published.
    """
    if not is_needed(folder, home):
        return
    part = part_of(folder, home)
    with _only_process(folder, home), explain_full_disk(home):
        part.mkdir(exist_ok=True)
        try:
            files = [_downloaded(folder, source, part, on_progress) for source in folder.downloads]
            _unpack_and_check(folder, home, files, on_progress)
        finally:
            with suppress(OSError):  # it is empty if nothing has arrived
                part.rmdir()


def is_needed(folder: DataFolder, home: Path) -> bool:
    """Whether a data set must be downloaded; False if it is complete.

    Args:
        folder: The data set.
        home: Folder of all data sets; it may not exist yet.

    Raises:
        DataError: an incomplete data set is in the way, or there is no address to download from.
    """
    try:
        is_complete = home.is_dir() and folder.find(home) is not None
    except DataError as error:
        raise DataError(
            f"{home / folder.name} is incomplete, and is not overwritten: move it away and run the "
            f"same command again ({error})"
        ) from error
    if not is_complete and not folder.downloads:
        raise folder.error(f"{folder.name} cannot be downloaded by this command")
    return not is_complete


@contextmanager
def _only_process(folder: DataFolder, home: Path) -> Iterator[None]:
    path = home / f".{folder.name}.lock"
    try:
        with FileLock(path, timeout=0):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows does not remove a file that is locked
                    path.unlink()
    except Timeout as error:
        raise DataError(f"another process is fetching {folder.name}: wait until it ends") from error


def _downloaded(folder: DataFolder, source: Download, part: Path, on_progress: OnProgress) -> Path:
    """The file at an address, complete and with its published checksum, if that is known."""
    path = part / PurePosixPath(urlsplit(source.url).path).name
    if not path.is_file():
        try:
            download(source.url, path, on_progress)
        except UnavailableError as error:
            raise folder.error(str(error)) from error
    if source.sha256 is None:
        return path
    with path.open("rb") as file:
        value = file_digest(file, "sha256").hexdigest()
    if value != source.sha256:
        path.unlink()
        raise folder.error(
            f"{source.url} must have the SHA-256 {source.sha256}, got {value}. The file was "
            "removed: it was damaged on the way, or has been replaced"
        )
    return path


def _unpack_and_check(
    folder: DataFolder, home: Path, files: list[Path], on_progress: OnProgress
) -> None:
    """Make the data set of its complete downloads, and remove these."""
    part = part_of(folder, home)
    unpacked = part / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    for source, file in zip(folder.downloads, files, strict=True):
        try:
            _place(source, file, unpacked, on_progress)
        except DataError:
            file.unlink(missing_ok=True)  # the next call must not use it again
            raise
    try:
        _check_and_record(folder, home, unpacked, on_progress)
    except DataError:
        shutil.rmtree(part)  # the next call must not use these files again
        raise
    unpacked.rename(home / folder.name)
    shutil.rmtree(part)


def _place(source: Download, file: Path, unpacked: Path, on_progress: OnProgress) -> None:
    """Put what was downloaded where the experiments read it."""
    target = unpacked / source.path
    if is_archive(file.name):
        target.mkdir(parents=True, exist_ok=True)
        numbers = count(1)
        show = lambda: on_progress("unpacking", next(numbers), None, "files")
        unpack(file, target, source.root, show)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.name.endswith(".gz"):
        decompress(file, target)
    else:
        shutil.copyfile(file, target)


def _check_and_record(
    folder: DataFolder, home: Path, unpacked: Path, on_progress: OnProgress
) -> None:
    missing = [file for file in folder.files if not (unpacked / file).exists()]
    if missing:
        raise folder.error(f"what was downloaded lacks {', '.join(missing)}")
    sums = checksums(folder, unpacked, on_progress)
    if folder.sha256 is not None and digest(sums) != folder.sha256:
        raise folder.error(
            f"the files of {folder.name} must have the checksum {folder.sha256}, got "
            f"{digest(sums)}: they were damaged, or the authors have changed them"
        )
    record(folder, home, sums)
