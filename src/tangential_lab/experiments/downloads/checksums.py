"""SHA-256 of every file of a data set: the published ones, and those recorded after a download.

The record DIR/NAME.sha256 has the format of sha256sum: `cd DIR && sha256sum -c NAME.sha256`. The
checksum of a published data set is that of its record, so `sha256sum NAME.sha256` shows it.
"""

from hashlib import file_digest, sha256
from pathlib import Path
from typing import NamedTuple

from tangential.files import write_atomically
from tangential_lab.experiments.data.sources import DataError, DataFolder
from tangential_lab.experiments.downloads.http import OnProgress

Checksums = dict[str, str]  # by the path from the folder of all data sets, with "/"


class CheckResult(NamedTuple):
    """What a check of a data set found."""

    is_good: bool
    text: str


def checksums(
    folder: DataFolder, place: Path, on_progress: OnProgress = lambda *_: None
) -> Checksums:
    """SHA-256 of all files that the experiments read; hidden files are left out.

    Args:
        folder: The data set.
        place: Its folder, which may have another name.
        on_progress: Called after each file.
    """
    sums = {}
    paths = sorted(set(_files(folder, place)))
    for number, path in enumerate(paths, 1):
        with path.open("rb") as file:
            name = path.relative_to(place).as_posix()
            sums[f"{folder.name}/{name}"] = file_digest(file, "sha256").hexdigest()
        on_progress("checksums", number, len(paths), "files")
    return dict(sorted(sums.items()))


def _files(folder: DataFolder, place: Path) -> list[Path]:
    tops = [place / file for file in folder.files]
    paths = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    visible = (p for p in paths if not any(n[0] == "." for n in p.relative_to(place).parts))
    return [path for path in visible if path.is_file()]


def digest(sums: Checksums) -> str:
    """The checksum of a data set: that of its record."""
    return sha256(_lines(sums).encode("utf-8", "surrogateescape")).hexdigest()


def record_path(folder: DataFolder, home: Path) -> Path:
    """Where the checksums of a downloaded data set are recorded."""
    return home / f"{folder.name}.sha256"


def record(folder: DataFolder, home: Path, sums: Checksums) -> None:
    """Record the checksums of a downloaded data set next to it."""
    with write_atomically(record_path(folder, home), "wb") as file:
        file.write(_lines(sums).encode("utf-8", "surrogateescape"))


def _lines(sums: Checksums) -> str:
    return "".join(f"{value}  {name}\n" for name, value in sums.items())


def _recorded(folder: DataFolder, home: Path) -> Checksums | None:
    path = record_path(folder, home)
    if not path.is_file():
        return None
    sums = {}
    for line in path.read_text("utf-8", "surrogateescape").splitlines():
        value, separator, name = line.partition("  ")
        if not separator or len(value) != 64:
            raise DataError(f"{path} must have lines of SHA-256 and file, got {line!r}")
        sums[name] = value
    return sums


def check_files(
    folder: DataFolder, home: Path, on_progress: OnProgress = lambda *_: None
) -> CheckResult | None:
    """Check a data set: whether it is complete, and its checksums if they are known.

    Args:
        folder: The data set.
        home: Folder of all data sets.
        on_progress: Called after each file whose checksum was computed.

    Returns:
        None if `home` does not contain the data set.
    """
    place = home / folder.name
    if not place.is_dir():
        return None
    if missing := [file for file in folder.files if _is_missing(place / file)]:
        return CheckResult(False, f"incomplete, without {', '.join(missing)}")
    recorded = _recorded(folder, home)
    if folder.sha256 is None and recorded is None:
        return CheckResult(True, "complete; there is no checksum to compare its files with")
    return _compared(folder, checksums(folder, place, on_progress), recorded)


def _is_missing(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _compared(folder: DataFolder, sums: Checksums, recorded: Checksums | None) -> CheckResult:
    if folder.sha256 is not None and digest(sums) == folder.sha256:
        return CheckResult(True, "complete; its checksum is that of the published files")
    known = recorded or sums
    changed = sorted(n for n in known.keys() | sums.keys() if known.get(n) != sums.get(n))
    if changed:
        others = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        return CheckResult(False, f"changed since the download: {changed[0]}{others}")
    if folder.sha256 is not None:
        return CheckResult(False, "complete, but its files differ from the published ones")
    return CheckResult(True, f"complete; unchanged since the download ({checksum_note(folder)})")


def checksum_note(folder: DataFolder) -> str:
    """Whether a download was compared with a published checksum."""
    return "with the published checksum" if folder.is_pinned else "no published checksum is known"
