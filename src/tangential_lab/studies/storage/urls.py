"""The URL of a study's database, and how it is shown without its password."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)


def file_url(path: Path) -> str:
    """The URL of an SQLite file; any character in its path is escaped."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def is_file(url: str) -> bool:
    """Whether the database is a file on this machine."""
    return url.partition(":")[0].partition("+")[0] == "sqlite"


def checked_url(url: str) -> "URL":
    """The parsed URL of a database that workers can share; ValueError for others."""
    shown, parsed = f"--storage {without_password(url)!r}", _parse_url(url)
    if parsed is None:
        raise ValueError(
            f"{shown} is not a valid URL: use sqlite:///FILE or postgresql://USER@HOST/NAME, "
            "and write special characters as %XX (@ is %40, / is %2F)"
        )
    if parsed.get_backend_name() == "postgres":
        raise ValueError(f"{shown}: write postgresql:// instead of postgres://")
    path = parsed.database or ":memory:"
    in_memory = path in (":memory:", "file::memory:") or parsed.query.get("mode") == "memory"
    if is_file(url) and in_memory:
        raise ValueError(f"{shown} is in memory: workers can share only a file or a server")
    return parsed


def _parse_url(url: str) -> "URL | None":
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    with suppress(ArgumentError, ValueError):
        return make_url(url)
    return None


def unambiguous_url(url: str) -> "URL | None":
    """The parsed URL; None if an unescaped character may have moved a part of the password."""
    parsed = _parse_url(url)
    if parsed is None or url.count("@") != (parsed.username is not None):
        return None
    database = None if is_file(url) else parsed.database
    return None if "=" in f"{parsed.username} {parsed.host} {database}" else parsed


def without_password(url: str) -> str:
    """The URL without its password and without query entries that may hold one.

    If an unescaped character may have moved a part of the password, only the scheme is left.

    >>> without_password("postgresql://me:secret@db/lab?sslmode=require&sslpassword=x")
    'postgresql://me:***@db/lab?sslmode=require'
    >>> without_password("postgresql://me/you:secret@db/lab")
    'postgresql://***'
    """
    parsed = unambiguous_url(url)
    if parsed is None:
        scheme, _, rest = url.partition("://")
        if rest and re.fullmatch(r"[\w+]+", scheme):
            return f"{scheme}://***"
        return url if re.fullmatch(r"[\w.-]*", url) else "***"
    secrets = [key for key, value in parsed.query.items() if SECRET.search(f"{key} {value}")]
    return parsed.difference_update_query(secrets).render_as_string()


def command_without_passwords(arguments: Sequence[str]) -> str:
    """A command line without passwords.

    >>> line = ["tangential", "worker", "s", "--storage", "postgresql://me:a b@db/lab"]
    >>> print(command_without_passwords(line))
    tangential worker s --storage 'postgresql://me:***@db/lab'
    """
    shown, is_storage = [], False
    for argument in arguments:
        option, equals, value = "", "", argument
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
        if is_storage or option == "--storage" or "://" in value:
            value = without_password(value)
        shown.append(option + equals + value)
        is_storage = argument == "--storage"
    return shlex.join(shown)
