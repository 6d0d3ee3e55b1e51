"""The database under Optuna's storage: SQLite's file, or a server."""

import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tangential_lab.errors import root_cause
from tangential_lab.studies.engine import optuna, without_experimental_warnings

if TYPE_CHECKING:
    from sqlalchemy import URL

WAIT_S = 120  # for another process that writes to the file
TRIES, PAUSE_S = 10, 0.3  # at a database in which other processes create the tables
# failures of an SQLite file that may pass, or end without damage to the file
PASSING = re.compile("locked|busy|full|I/O|unable to open|readonly|interrupted", re.IGNORECASE)
NO_DATABASE = re.compile("not a database|malformed")
# packages for the modules that SQLAlchemy imports by default
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary"}
OPENING_S = 15  # for a server that is just starting
STARTING = re.compile("refused|starting up|shutting down|recovery", re.IGNORECASE)
SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)


def file_url(path: Path) -> str:
    """The URL of an SQLite file, whatever characters its path has."""
    from sqlalchemy import URL

    url = URL.create("sqlite", database=str(path.absolute()))
    return url.render_as_string(hide_password=False)


def is_file(url: str) -> bool:
    """Whether the database is a file on this machine."""
    from sqlalchemy import make_url

    return make_url(url).get_backend_name() == "sqlite"


def open_storage(
    url: str, *, beat_s: int, grace_s: int, wait_s: float = OPENING_S, create: bool = True
) -> Any:
    """Optuna's storage in this database.

    Args:
        url: In SQLAlchemy's form: sqlite:///FILE or postgresql://...
        beat_s: Seconds between a running trial's signs of life.
        grace_s: Seconds without one, after which it is dead.
        wait_s: Seconds to wait for a server that refuses connections, as one does that is starting.
            All other failures to connect (an unknown host, a wrong password) raise at once.
        create: Create the file and its tables if they do not exist.

    Raises:
        ValueError: the database cannot be opened, does not exist, or belongs to another program.
    """
    shown, parsed = f"--storage {without_password(url)!r}", _checked(url)
    file = parsed.get_backend_name() == "sqlite"
    if file:
        _check_path(parsed.database or "", create=create)
    options = {"connect_args": {"timeout": WAIT_S}} if file else {"pool_pre_ping": True}
    full = parsed.render_as_string(hide_password=False)  # without the braces of Optuna's templates

    def make() -> Any:
        _check_tables(parsed, options, create=create)
        return optuna().storages.RDBStorage(
            full, engine_kwargs=options, heartbeat_interval=beat_s, grace_period=grace_s
        )

    # a warning of Optuna repeats pages of SQL; what fails in the end is raised
    optuna().logging.set_verbosity(optuna().logging.ERROR)
    try:
        storage = _made(make, wait_s)
    except ImportError as error:
        module = getattr(root_cause(error), "name", None) or "a driver"
        package = PACKAGES.get(module, module)
        raise ValueError(
            f"{shown} needs a driver that is not installed: run pip install {package}"
        ) from error
    except (RuntimeError, *database_errors()) as error:  # RuntimeError: another schema
        raise ValueError(f"{shown} cannot be opened: {_reason(error, url)}") from error
    if file:
        _one_writer_at_a_time(storage.engine)
    return storage


def _checked(url: str) -> "URL":
    """The URL of a database that workers can share.

    Raises:
        ValueError: it is none.
    """
    shown, parsed = f"--storage {without_password(url)!r}", _parsed(url)
    if parsed is None:
        raise ValueError(
            f"{shown} is not a valid URL: use sqlite:///FILE or postgresql://USER@HOST/NAME, "
            "and write special characters as %XX (@ is %40, / is %2F)"
        )
    if parsed.get_backend_name() == "postgres":
        raise ValueError(f"{shown}: write postgresql:// instead of postgres://")
    file, path = parsed.get_backend_name() == "sqlite", parsed.database or ":memory:"
    in_memory = path in (":memory:", "file::memory:") or parsed.query.get("mode") == "memory"
    if file and in_memory:
        raise ValueError(f"{shown} is in memory: workers can share only a file or a server")
    return parsed


def _check_path(path: str, *, create: bool) -> None:
    """Make the folder of an SQLite file, or raise ValueError if there is no such file."""
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
    """Raise ValueError if the tables are another program's, or missing where none are created."""
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
    """Whether Optuna makes such a table: another process may just be creating all of them."""
    from optuna.storages._rdb.models import BaseModel

    known = BaseModel.metadata.tables.get(name)
    return known is not None and {c.name for c in known.columns} == {
        column["name"] for column in tables.get_columns(name)
    }


def damage_report(error: Exception, url: str) -> str:
    """What is wrong with a damaged or changed database, and what to do; "" for other failures."""
    from sqlalchemy.exc import DataError, IntegrityError, NoResultFound, ProgrammingError

    cause, inner = root_cause(error), error
    if is_file(url):
        known = isinstance(cause, (sqlite3.Error, ValueError, TypeError, NoResultFound))
        if not known or PASSING.search(str(cause)):
            return ""
    else:
        while inner.__cause__ is not None and type(inner).__module__.startswith("optuna"):
            inner = inner.__cause__
        if not isinstance(inner, (DataError, IntegrityError, NoResultFound, ProgrammingError)):
            return ""
    return (
        f"{without_password(url)} cannot be used: {_reason(cause, url)}. "
        "Restore the database from a backup, or choose another --study or --out"
    )


def without_password(url: str) -> str:
    """The URL without its password and without query entries that may have one.

    Where an unescaped character may have put a part of the password elsewhere, only its scheme.

    >>> without_password("postgresql://me:secret@db/lab?sslmode=require&sslpassword=x")
    'postgresql://me:***@db/lab?sslmode=require'
    >>> without_password("postgresql://me/you:secret@db/lab")
    'postgresql://***'
    """
    parsed = _parsed(url)
    if parsed is None or not _is_clear(url, parsed):
        scheme, _, rest = url.partition("://")
        if rest and re.fullmatch(r"[\w+]+", scheme):
            return f"{scheme}://***"
        return url if re.fullmatch(r"[\w.-]*", url) else "***"
    secret = [key for key, value in parsed.query.items() if SECRET.search(f"{key} {value}")]
    return parsed.difference_update_query(secret).render_as_string()


def command_without_passwords(arguments: Sequence[str]) -> str:
    """The command line of these arguments, without passwords.

    >>> print(command(["tangential", "worker", "s", "--storage", "postgresql://me:a b@db/lab"]))
    tangential worker s --storage 'postgresql://me:***@db/lab'
    """
    pairs = zip(["", *arguments], arguments, strict=False)
    return shlex.join(_shown(argument, before) for before, argument in pairs)


def _shown(argument: str, before: str) -> str:
    option, _, value = argument.partition("=")
    if argument.startswith("--"):
        is_url = value and (option == "--storage" or "://" in value)
        return f"{option}={without_password(value)}" if is_url else argument
    return without_password(argument) if before == "--storage" or "://" in argument else argument


def _parsed(url: str) -> "URL | None":
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None


def _is_clear(url: str, parsed: "URL") -> bool:
    """Whether no part of a password can stand in another part of the URL."""
    database = None if parsed.get_backend_name() == "sqlite" else parsed.database
    parts = f"{parsed.username} {parsed.host} {database}"
    return "=" not in parts and url.count("@") == (parsed.username is not None)


def _reason(error: BaseException, url: str) -> str:
    """The first line of what a driver says; it may repeat what it was given."""
    parsed = _parsed(url)
    if parsed is None or not _is_clear(url, parsed):
        return f"{type(error).__name__}. Write special characters as %XX (@ is %40, / is %2F)"
    text = str(root_cause(error)).strip().partition("\n")[0]
    query = [
        v for key, values in parsed.normalized_query.items() if SECRET.search(key) for v in values
    ]
    for secret in filter(None, (parsed.password, os.environ.get("PGPASSWORD"), *query)):
        text = text.replace(secret, "***")
    return text


def _made(make: Callable[[], Any], wait_s: float) -> Any:
    """What `make` makes, tried again: of several who make the tables at once, all but one fail."""
    from sqlalchemy.exc import DBAPIError

    deadline, tries = time.monotonic() + wait_s, TRIES
    while True:
        try:
            with without_experimental_warnings():
                return make()
        except database_errors() as error:
            tries -= 1
            locked = "is locked" in str(error)  # SQLite has waited for WAIT_S
            connected = not isinstance(error, DBAPIError) or error.statement is not None
            starting = STARTING.search(str(error)) and time.monotonic() < deadline
            if (
                locked
                or NO_DATABASE.search(str(error))
                or not (tries > 0 if connected else starting)
            ):
                raise
        time.sleep(PAUSE_S)


def database_errors() -> tuple[type[Exception], ...]:
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
