"""The database under Optuna's storage: SQLite's file, or a server."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tangential.lab.engine import optuna, unwarned

WAIT_S = 120  # for another process that writes to the file
TRIES, PAUSE_S = 10, 0.3  # at a database that others are making
FILE = "sqlite:///"


def is_file(url: str) -> bool:
    """Whether the database is a file of this machine."""
    return url.startswith(FILE)


def opened(url: str, *, beat_s: int, grace_s: int) -> Any:
    """Optuna's storage in this database.

    Args:
        url: As SQLAlchemy has it: sqlite:///FILE or postgresql://...
        beat_s: Seconds between a running trial's signs of life.
        grace_s: Seconds without one, after which it is dead.

    Raises:
        ValueError: there is no such database.
    """
    if is_file(url):
        Path(url.removeprefix(FILE)).parent.mkdir(parents=True, exist_ok=True)
    options = {"connect_args": {"timeout": WAIT_S}} if is_file(url) else {"pool_pre_ping": True}
    make = lambda: optuna().storages.RDBStorage(
        url, engine_kwargs=options, heartbeat_interval=beat_s, grace_period=grace_s
    )
    try:
        storage = _made(make)
    except (ImportError, RuntimeError, *failures()) as error:  # RuntimeError: another schema
        raise ValueError(
            f"--storage {without_password(url)!r} is not to be had: {_first_line(error)}"
        ) from error
    if is_file(url):
        _one_writer_at_a_time(storage.engine)
    return storage


def without_password(text: str) -> str:
    """The text, such as a command, with stars for the passwords of urls.

    >>> without_password("--storage postgresql://me:secret@db/lab")
    '--storage postgresql://me:***@db/lab'
    """
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)


def _made(make: Callable[[], Any]) -> Any:
    """What `make` makes, tried again: of several who make the tables at once, all but one fail."""
    for _ in range(TRIES - 1):
        try:
            with unwarned():
                return make()
        except failures() as error:
            if "is locked" in str(error):  # SQLite has waited for WAIT_S
                raise
        time.sleep(PAUSE_S)
    with unwarned():
        return make()


def failures() -> tuple[type[Exception], ...]:
    """What a database raises when it is gone, full or locked."""
    from sqlalchemy.exc import SQLAlchemyError

    return optuna().exceptions.StorageInternalError, SQLAlchemyError


def _one_writer_at_a_time(engine: Any) -> None:
    """Take SQLite's lock at the start of a transaction, not between its reading and its writing.

    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-sqlite-transactions
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
