"""Finds data sets, computes their checksums, and caches arrays that are prepared from them."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TextIO

import numpy as np
from platformdirs import user_cache_path

from tangential_lab.training import DataSource

HASHED_BYTES = 4 << 30  # for larger data sets, only the names and sizes of the files are hashed

NAMES = "names.json"  # of the arrays in a folder of the cache

Arrays = dict[str, np.ndarray]


class DataError(ValueError):
    """Data are missing or broken."""


class Download(NamedTuple):
    """A file that the authors of a data set offer.

    An archive (.zip, .tar, .tar.gz, .tgz) is unpacked, and another .gz file is decompressed.
    """

    url: str
    path: str = "."  # inside the folder of the data set: a file, or where an archive is unpacked
    root: str = "."  # the folder of the archive that is unpacked, without its own name
    sha256: str | None = None  # of the file at `url`, if it never changes and is known


class DataFolder(NamedTuple):
    """A data set in the layout that its authors publish."""

    name: str  # its folder, inside the folder of all data sets
    files: tuple[str, ...]  # paths inside it that must exist
    download_hint: str  # a sentence for error messages: where to get the data set, "Get ..."
    title: str = ""
    publisher: str = ""
    licence: str = ""
    megabytes: int | None = None  # about, on the disk; None if unknown
    used_by: str = ""  # the tasks that read it, and their options
    downloads: tuple[Download, ...] = ()  # none: users must get it themselves
    sha256: str | None = None  # of the list of checksums: see `downloads.checksums`

    @property
    def is_pinned(self) -> bool:
        """Whether a published checksum is known, of the files or of every download."""
        downloads = [download.sha256 for download in self.downloads]
        return self.sha256 is not None or (bool(downloads) and None not in downloads)

    def find(self, data: Path | None) -> list[Path] | None:
        """The paths of the files, or None if there is no such folder.

        Args:
            data: Folder of all data sets; None looks at TANGENTIAL_DATA.

        Raises:
            DataError: the folder exists and lacks a file, or `data` does not exist.
        """
        home = data_home(data)
        if home is None or not (home / self.name).is_dir():
            return None
        paths = [home / self.name / file for file in self.files]
        for path in paths:
            if not path.exists():
                raise self.error(f"{path} is missing: {self.name} needs {', '.join(self.files)}")
        return paths

    def require(self, data: Path | None) -> list[Path]:
        """The paths of the files; a missing folder is an error, too."""
        paths = self.find(data)
        if paths is None:
            home = data_home(data)
            searched = f"{home} has no folder {self.name!r}" if home else "no data folder was given"
            raise DataError(
                f"{searched}: pass --data DIR (or set TANGENTIAL_DATA) so that DIR/{self.name} "
                f"contains {', '.join(self.files)}. {self._how_to_get_it()}"
            )
        return paths

    def _how_to_get_it(self) -> str:
        if not self.downloads:
            return self.download_hint
        command = f"tangential data fetch {self.name} --data DIR"
        return f"Run `{command}`, or g{self.download_hint.removeprefix('G')}"

    def error(self, text: str) -> DataError:
        """An error that ends with where to get the data set."""
        return DataError(f"{text.rstrip('.')}. {self.download_hint}")

    @contextmanager
    def reading(self, path: Path, kind: str) -> Iterator[None]:
        """Turn the exceptions of a broken or missing file into a DataError that names the file.

        Args:
            path: The file.
            kind: What the file should be: "a table with columns a, b".
        """
        try:
            yield
        except DataError:  # which names the file already
            raise
        except Exception as error:  # every library has its own exceptions
            reason = f"{type(error).__name__}: {error}"
            raise self.error(f"cannot read {path} as {kind}: {reason}") from error

    @contextmanager
    def reading_text(self, path: Path, kind: str) -> Iterator[TextIO]:
        """The same for a text file, which is opened."""
        with self.reading(path, kind), path.open(newline="", encoding="utf-8") as file:
            yield file


def github_archive(repository: str, commit: str) -> Download:
    """All files of a commit. Its archive has no fixed checksum: GitHub sometimes packs it again."""
    name = repository.partition("/")[2]
    return Download(
        f"https://github.com/{repository}/archive/{commit}.zip", root=f"{name}-{commit}"
    )


def data_home(data: Path | None) -> Path | None:
    """The folder of all data sets: `data`, or TANGENTIAL_DATA, or None. It must exist."""
    named = data or (Path(text) if (text := os.environ.get("TANGENTIAL_DATA")) else None)
    if named is not None and not named.is_dir():
        raise DataError(f"--data (or TANGENTIAL_DATA) must be a folder, got {str(named)!r}")
    return named


def downloads() -> Path:
    """The folder in which libraries put their downloads."""
    return user_cache_path("tangential") / "downloads"


def described(about: str, paths: Iterable[Path]) -> DataSource:
    """Data with the checksum of their files, or, past 4 GiB, of their files' names and sizes."""
    files = sorted(p for path in paths for p in ([path] if path.is_file() else path.rglob("*")))
    files = [p for p in files if p.is_file()]
    sizes = [p.stat().st_size for p in files]
    is_small, digest = sum(sizes) <= HASHED_BYTES, sha256()
    for path, size in zip(files, sizes, strict=True):
        digest.update(f"{path.name} {size}\n".encode())
        if is_small:
            with path.open("rb") as file:
                digest.update(file_digest(file, "sha256").digest())
    return DataSource(about, digest.hexdigest()[:16])


def prepared(name: str, data: DataSource, make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` returns, made once and then mapped read-only from the user's cache.

    Args:
        name: Name of the preparation and its settings, such as "cifar10-10000-32". The folder in
            the cache is named after it and after the checksum of the data.
        data: What the arrays are made of.
        make: Returns arrays by name.
    """
    place = user_cache_path("tangential") / "prepared" / f"{name}-{data.checksum}"
    if place.is_dir():
        try:
            return _mapped(place)
        except (EOFError, OSError, ValueError):  # damaged, by a power failure for instance
            shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent) as temporary:
        complete = Path(temporary) / "complete"
        complete.mkdir()
        arrays = make()
        for key, array in arrays.items():
            np.save(complete / f"{key}.npy", array)
        (complete / NAMES).write_text(json.dumps([*arrays]), "utf-8")
        try:
            complete.rename(place)
        except OSError:  # another process may have been faster
            if not place.is_dir():
                raise
    return _mapped(place)


def _mapped(folder: Path) -> Arrays:
    names = json.loads((folder / NAMES).read_text("utf-8"))
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
