"""Errors of databases: which ones are damage, and what their messages say."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tangential_lab.errors import root_cause
from tangential_lab.studies.search import optuna
from tangential_lab.studies.storage.urls import SECRET, is_file, unambiguous_url, without_password

# errors of SQLite that are temporary, or that do not mean damage
PASSING = re.compile("locked|busy|full|I/O|unable to open|readonly|interrupted", re.IGNORECASE)
# exceptions that reading another program's data may raise
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError, AttributeError, RecursionError)


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
