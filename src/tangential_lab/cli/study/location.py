"""Where studies are stored: the command-line options for it, and how to open a study."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat

from tangential_lab.errors import TRACEBACK, report_errors
from tangential_lab.files import check_folder, make_writable_folder
from tangential_lab.studies import (
    STARTING_S,
    Store,
    StudyFailedError,
    TrialFailedError,
    check_storage,
    database_errors,
    file_url,
)

CONTINUE = "Finished trials are kept: run the same command again to continue."


@Parameter(name="*")
@dataclass(frozen=True)
class Location:
    """Where studies are stored.

    Args:
        storage: Database URL, such as postgresql://user@host/name, for workers on several
            machines; by default a file in the study's folder.
        out: Folder that contains the folders of studies.
    """

    storage: Annotated[str | None, Parameter(env_var="TANGENTIAL_STORAGE")] = None
    out: Path = Path("runs")

    def check(self, study: str) -> None:
        """Raise now the error that `create` would raise later; nothing is left."""
        folder = self.out / study
        check_folder(folder)
        check_storage(self.storage or file_url(folder / "study.db"), STARTING_S)

    def create(self, study: str) -> Store:
        """The store of a study; it and the study's folder are made if they do not exist."""
        folder = self.out / study
        make_writable_folder(folder)
        return Store(self.storage, study) if self.storage else stored_in(folder)

    def open(self, study: str) -> tuple[Path, Store]:
        """The folder and the store of a study that exists.

        Args:
            study: Its name, or its folder.

        Raises:
            ValueError: there is no such study.
        """
        folder = Path(study)
        if not (folder / "study.db").is_file():
            folder = self.out / checked_name(study)
        if self.storage:
            return folder, Store(self.storage, folder.resolve().name, create=False)
        if not (folder / "study.db").is_file():
            raise ValueError(f"there is no study {study!r}: no such file: {folder / 'study.db'}")
        return folder, stored_in(folder, create=False)


@Parameter(name="*")
@dataclass(frozen=True)
class TrialFiles:
    """What a trial reads, and what it saves while it runs.

    Args:
        data: Folder that contains one folder per data set; by default TANGENTIAL_DATA.
        checkpoint_s: Seconds between checkpoints of a trial. If a worker stops, another one
            that can read the study's folder continues from the last checkpoint.
    """

    data: Path | None = None
    checkpoint_s: NonNegativeFloat = 60.0


DEFAULT_LOCATION, DEFAULT_FILES = Location(), TrialFiles()


def checked_name(study: str) -> str:
    """The name of a study, which is also the name of its folder."""
    if study in ("", "..") or Path(study).name != study:
        raise ValueError(
            f"study must be the name of one folder, got {study!r}: "
            "give the folder that contains it as --out"
        )
    return study


def study_errors(hint: str = CONTINUE) -> AbstractContextManager[None]:
    """Report an error of a study, of its trials or of its database in one line."""
    return report_errors(StudyFailedError, TrialFailedError, *database_errors(), hint=hint)


WORKER_HINT = f"{CONTINUE} {TRACEBACK}=1 shows the traceback."


def stored_in(folder: Path, *, create: bool = True) -> Store:
    """The store in a study's folder. The study keeps its name if the folder is renamed."""
    store = Store(file_url(folder / "study.db"), folder.resolve().name, create=create)
    names = store.names()
    store.name = names[0] if len(names) == 1 else store.name
    return store
