"""Error messages about databases that are damaged, or that another program has changed."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tangential_lab.errors import root_cause
from tangential_lab.studies.storage.database import database_errors, first_line
from tangential_lab.studies.storage.urls import is_file, without_password

# errors of SQLite that are temporary, or that do not mean damage
PASSING = re.compile("locked|busy|full|I/O|unable to open|readonly|interrupted", re.IGNORECASE)
# exceptions that reading another program's data may raise
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError, AttributeError, RecursionError)


class DamagedError(ValueError):
    """The database is damaged, or another program has changed it."""


@contextmanager
def undamaged(url: str) -> Iterator[None]:
    """Turns errors of a damaged database into a DamagedError that says what to do.

    Raises:
        DamagedError: the database is damaged.
    """
    try:
        yield
    except database_errors() as error:
        if text := damage_report(error, url):
            raise DamagedError(text) from error
        raise


@contextmanager
def readable(what: str, study: str, url: str) -> Iterator[None]:
    """Turns errors of reading another program's value into a ValueError that says what to do.

    Raises:
        ValueError: the value cannot be read.
    """
    try:
        with undamaged(url):
            yield
    except DamagedError:
        raise
    except UNREADABLE as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{what} of study {study!r} in {without_password(url)} cannot be read: "
            f"{reason}. Another program or another version of Tangential wrote it: use that "
            "version, restore a backup, or begin another study (--study NAME)"
        ) from error


def damage_report(error: Exception, url: str) -> str:
    """What is wrong with a damaged or changed database, and what to do; "" for other errors."""
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
        f"{without_password(url)} cannot be used: {first_line(cause, url)}. "
        "Restore the database from a backup, or choose another --study or --out"
    )
