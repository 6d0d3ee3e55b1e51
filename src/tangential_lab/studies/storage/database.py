"""Opens the database behind Optuna's storage, and explains its errors."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tangential_lab.errors import root_cause
from tangential_lab.studies.search import optuna, without_experimental_warnings
from tangential_lab.studies.storage.urls import (
    SECRET,
    checked_url,
    is_unambiguous,
    parse_url,
    without_password,
)

if TYPE_CHECKING:
    from sqlalchemy import URL

WAIT_S = 120  # seconds to wait for another process that writes to the file
TRIES, PAUSE_S = 10, 0.3  # while other processes create the tables
STARTING_S = 15  # seconds to wait for a server that is starting
STARTING = re.compile("refused|starting up|shutting down|recovery", re.IGNORECASE)
NOT_A_DATABASE = re.compile("not a database|malformed")
# packages of the modules that SQLAlchemy imports by default
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary"}


def open_storage(
    url: str, *, beat_s: int, grace_s: int, wait_s: float = STARTING_S, create: bool = True
) -> Any:
    """Optuna's storage in this database.

    Args:
        url: In SQLAlchemy's form: sqlite:///FILE or postgresql://...
        beat_s: Seconds between the heartbeats of a running trial.
        grace_s: Seconds without a heartbeat after which a trial is stale.
        wait_s: Seconds to wait for a server that refuses connections because it is starting. Other
            errors of connecting (an unknown host, a wrong password) raise at once.
        create: Create the file and its tables if they do not exist.

    Raises:
        ValueError: the database cannot be opened, does not exist, or belongs to another program.
    """
    parsed = checked_url(url)
    file = parsed.get_backend_name() == "sqlite"
    if file:
        _check_path(parsed.database or "", create=create)
    options = {"connect_args": {"timeout": WAIT_S}} if file else {"pool_pre_ping": True}
    full = parsed.render_as_string(hide_password=False)  # without the braces of Optuna's templates

    def connect() -> Any:
        _check_tables(parsed, options, create=create)
        return optuna().storages.RDBStorage(
            full, engine_kwargs=options, heartbeat_interval=beat_s, grace_period=grace_s
        )

    storage = _connected(connect, url, wait_s)
    if file:
        _one_writer_at_a_time(storage.engine)
    return storage


def _check_path(path: str, *, create: bool) -> None:
    """Make the folder of an SQLite file, or raise ValueError if the file must exist already."""
    if path.startswith("file:"):  # SQLite's own form of a URL
        path = unquote(path.removeprefix("file:").removeprefix("//"))
    elif create:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not (create or Path(path).exists()):
        raise ValueError(
            f"no such database: {path}. Use the file of a study that `tangential compare` "
            "has started"
        )


def _check_tables(url: "URL", options: dict[str, Any], *, create: bool) -> None:
    """Raise ValueError if the tables belong to another program, or must exist already."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    file = url.get_backend_name() == "sqlite"
    if not file and create:
        return  # a server's database may have other programs' tables, too
    engine = create_engine(url, poolclass=NullPool, **options)
    try:
        tables = inspect(engine)
        names = [*tables.get_table_names(), *tables.get_view_names()]
        if "version_info" in names:
            return
        foreign = [name for name in names if not _is_optunas(tables, name)]
    finally:
        engine.dispose()
    shown = url.database if file else url.render_as_string()
    if foreign and file:
        raise ValueError(
            f"{shown} belongs to another program (it has a table {foreign[0]!r:.100}): "
            "choose another file"
        )
    if not create:
        raise ValueError(f"no study in {shown}: `tangential compare` has not used this database")


def _is_optunas(tables: Any, name: str) -> bool:
    """Whether Optuna has such a table: another process may be creating its tables now."""
    from optuna.storages._rdb.models import BaseModel

    known = BaseModel.metadata.tables.get(name)
    return known is not None and {c.name for c in known.columns} == {
        column["name"] for column in tables.get_columns(name)
    }


def _connected(connect: Callable[[], Any], url: str, wait_s: float) -> Any:
    """The storage; errors become a ValueError that names `--storage`."""
    shown = f"--storage {without_password(url)!r}"
    # Optuna's warnings repeat pages of SQL; the last error is raised anyway
    optuna().logging.set_verbosity(optuna().logging.ERROR)
    try:
        return _retried(connect, wait_s)
    except ImportError as error:
        module = getattr(root_cause(error), "name", None) or "a driver"
        package = PACKAGES.get(module, module)
        raise ValueError(
            f"{shown} needs a driver that is not installed: run pip install {package}"
        ) from error
    except (RuntimeError, *database_errors()) as error:  # RuntimeError: other tables
        raise ValueError(f"{shown} cannot be opened: {first_line(error, url)}") from error


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


def retry(act: Callable[[], Any], patience_s: float) -> Any:
    """The result of `act`, which is called again while the database is unavailable.

    Raises:
        Exception: one of `database_errors()`, after `patience_s` seconds.
    """
    deadline, pause_s = time.monotonic() + patience_s, 0.5
    while True:
        try:
            return act()
        except database_errors():
            if time.monotonic() > deadline:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 15.0)


def database_errors() -> tuple[type[Exception], ...]:
    """The exceptions of a database that is unavailable, full or locked."""
    from sqlalchemy.exc import SQLAlchemyError

    return optuna().exceptions.StorageInternalError, SQLAlchemyError


def first_line(error: BaseException, url: str) -> str:
    """The first line of a driver's message, which may repeat secrets of the URL."""
    parsed = parse_url(url)
    if parsed is None or not is_unambiguous(url, parsed):
        return f"{type(error).__name__}. Write special characters as %XX (@ is %40, / is %2F)"
    text = str(root_cause(error)).strip().partition("\n")[0]
    query = [
        v for key, values in parsed.normalized_query.items() if SECRET.search(key) for v in values
    ]
    for secret in filter(None, (parsed.password, os.environ.get("PGPASSWORD"), *query)):
        text = text.replace(secret, "***")
    return text


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
