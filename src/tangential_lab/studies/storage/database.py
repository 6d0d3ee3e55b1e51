"""Opens the database behind Optuna's storage, and explains its errors."""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tangential_lab.errors import root_cause
from tangential_lab.files import check_folder
from tangential_lab.studies.search import optuna, without_experimental_warnings
from tangential_lab.studies.storage.urls import (
    SECRET,
    checked_url,
    is_file,
    unambiguous_url,
    without_password,
)

if TYPE_CHECKING:
    from sqlalchemy import URL

BEAT_S = 15  # seconds between the heartbeats of a running trial
GRACE_S = 60  # seconds without a heartbeat after which a trial is stale
WAIT_S = 120  # seconds to wait for another process that writes to the file
TRIES, PAUSE_S = 10, 0.3  # while other processes create the tables
STARTING = re.compile("refused|starting up|shutting down|recovery", re.IGNORECASE)
NOT_A_DATABASE = re.compile("not a database|malformed")
# errors of SQLite that are temporary, or that do not mean damage
PASSING = re.compile("locked|busy|full|I/O|unable to open|readonly|interrupted", re.IGNORECASE)
# exceptions that reading another program's data may raise
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError, AttributeError, RecursionError)
# packages of the modules that SQLAlchemy imports by default
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary"}


def check_storage(url: str, wait_s: float) -> None:
    """Raise now the ValueError or OSError that creating it would raise later; nothing is left."""
    parsed = checked_url(url)
    if is_file(url) and not _path(parsed).exists():  # connecting would create the file
        check_folder(_path(parsed).parent)
    else:
        _connected(url, wait_s, lambda: _check_tables(parsed, _options(url), create=True))


def open_storage(url: str, wait_s: float, *, create: bool) -> Any:
    """Optuna's storage in this database; arguments and errors are those of `Store`."""
    parsed, options = checked_url(url), _options(url)
    full = parsed.render_as_string(hide_password=False)  # without the braces of Optuna's templates
    if is_file(url):
        _check_path(_path(parsed), create=create)

    def connect() -> Any:
        if is_file(url) or not create:  # a server's database may have other programs' tables
            _check_tables(parsed, options, create=create)
        return optuna().storages.RDBStorage(
            full, engine_kwargs=options, heartbeat_interval=BEAT_S, grace_period=GRACE_S
        )

    storage = _connected(url, wait_s, connect)
    if is_file(url):
        _one_writer_at_a_time(storage.engine)
    return storage


def _options(url: str) -> dict[str, Any]:
    """Arguments of SQLAlchemy's engine."""
    return {"connect_args": {"timeout": WAIT_S}} if is_file(url) else {"pool_pre_ping": True}


def _connected(url: str, wait_s: float, connect: Callable[[], Any]) -> Any:
    """The result of `connect`, tried again while the database starts; ValueError if it fails."""
    shown = f"--storage {without_password(url)!r}"
    # Optuna's warnings repeat pages of SQL; the last error is raised anyway
    optuna().logging.set_verbosity(optuna().logging.ERROR)
    try:
        return _retried(connect, wait_s)
    except ImportError as error:
        module = getattr(root_cause(error), "name", None) or "a driver"
        install = f"run pip install {PACKAGES.get(module, module)}"
        raise ValueError(f"{shown} needs a driver that is not installed: {install}") from error
    except (RuntimeError, *database_errors()) as error:  # RuntimeError: other tables
        raise ValueError(f"{shown} cannot be opened: {first_line(error, url)}") from error


def _path(url: "URL") -> Path:
    """The file of an SQLite database."""
    path = url.database or ""
    if path.startswith("file:"):  # SQLite's own form of a URL
        path = unquote(path.removeprefix("file:").removeprefix("//"))
    return Path(path)


def _check_path(path: Path, *, create: bool) -> None:
    """Make the folder of an SQLite file, or raise ValueError if the file must exist already."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise ValueError(
            f"no such database: {path}. Use the file of a study that `tangential compare` "
            "has started"
        )


def _check_tables(url: "URL", options: dict[str, Any], *, create: bool) -> None:
    """Raise ValueError if a file belongs to another program, or if tables must exist already."""
    from optuna.storages._rdb.models import BaseModel
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    # another process may be creating Optuna's tables now
    optunas = {name: {*table.columns.keys()} for name, table in BaseModel.metadata.tables.items()}
    engine = create_engine(url, poolclass=NullPool, **options)
    try:
        tables = inspect(engine)
        names = [*tables.get_table_names(), *tables.get_view_names()]
        if "version_info" in names:
            return
        columns = {n: {c["name"] for c in tables.get_columns(n)} for n in names if n in optunas}
    finally:
        engine.dispose()
    foreign = [n for n in names if n not in columns or columns[n] != optunas[n]]
    if foreign and is_file(str(url)):
        raise ValueError(
            f"{url.database} belongs to another program (it has a table {foreign[0]!r:.100}): "
            "choose another file"
        )
    if not create:
        shown = url.database if is_file(str(url)) else url.render_as_string()
        raise ValueError(f"no study in {shown}: `tangential compare` has not used this database")


def _retried(connect: Callable[[], Any], wait_s: float) -> Any:
    """Connect, with retries: if several processes create the tables, all but one fail."""
    from sqlalchemy.exc import DBAPIError

    deadline, tries = time.monotonic() + wait_s, TRIES
    while True:
        try:
            with without_experimental_warnings():
                return connect()
        except database_errors() as error:
            tries -= 1
            locked = "is locked" in str(error)  # SQLite has waited for WAIT_S
            connected = not isinstance(error, DBAPIError) or error.statement is not None
            starting = STARTING.search(str(error)) and time.monotonic() < deadline
            again = tries > 0 if connected else starting
            if locked or NOT_A_DATABASE.search(str(error)) or not again:
                raise
        time.sleep(PAUSE_S)


def _one_writer_at_a_time(engine: Any) -> None:
    """Take SQLite's lock when a transaction begins, not between its first read and first write.

    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-sqlite-transactions
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def database_errors() -> tuple[type[Exception], ...]:
    """The exceptions of a database that is unavailable, full or locked."""
    from sqlalchemy.exc import SQLAlchemyError

    return optuna().exceptions.StorageInternalError, SQLAlchemyError


class DamagedError(ValueError):
    """The database is damaged, or another program has changed it."""


@contextmanager
def undamaged(url: str, value: str = "") -> Iterator[None]:
    """Turns errors of a damaged database into a DamagedError that says what to do.

    Given the name of a value that is read, it turns all errors of reading it into a ValueError.
    """
    try:
        yield
    except (*database_errors(), *UNREADABLE) as error:
        if isinstance(error, database_errors()) and (text := damage_report(error, url)):
            raise DamagedError(text) from error
        if not value or not isinstance(error, UNREADABLE):
            raise
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{value} in {without_password(url)} cannot be read: {reason}. Another program or "
            "another version of Tangential wrote it: use that version, restore a backup, or begin "
            "another study (--study NAME)"
        ) from error


def damage_report(error: Exception, url: str) -> str:
    """What is wrong with a damaged or changed database, and what to do; "" for other errors."""
    from sqlalchemy.exc import DataError, IntegrityError, NoResultFound, ProgrammingError

    cause, inner = root_cause(error), error
    if is_file(url):
        known = isinstance(cause, (sqlite3.Error, ValueError, TypeError, NoResultFound))
        damaged = known and not PASSING.search(str(cause))
    else:
        while inner.__cause__ is not None and type(inner).__module__.startswith("optuna"):
            inner = inner.__cause__
        damaged = isinstance(inner, (DataError, IntegrityError, NoResultFound, ProgrammingError))
    advice = "Restore the database from a backup, or choose another --study or --out"
    shown = without_password(url)
    return f"{shown} cannot be used: {first_line(cause, url)}. {advice}" if damaged else ""


def first_line(error: BaseException, url: str) -> str:
    """The first line of a driver's message, which may repeat secrets of the URL."""
    parsed = unambiguous_url(url)
    if parsed is None:
        return f"{type(error).__name__}. Write special characters as %XX (@ is %40, / is %2F)"
    text = str(root_cause(error)).strip().partition("\n")[0]
    query = [
        v for key, values in parsed.normalized_query.items() if SECRET.search(key) for v in values
    ]
    for secret in filter(None, (parsed.password, os.environ.get("PGPASSWORD"), *query)):
        text = text.replace(secret, "***")
    return text
