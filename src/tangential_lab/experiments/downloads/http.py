"""Downloads one file over HTTP, and continues an interrupted download where it stopped."""

import errno
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tangential_lab.experiments.data.sources import DataError

TIMEOUT_S = 30.0  # without a byte from the server
BLOCK = 1 << 18  # bytes
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}  # the disk, or the user's quota

# what is being done, the number done, their total or None if unknown, and their unit
OnProgress = Callable[[str, int, int | None, Literal["bytes", "files"]], None]


class UnavailableError(DataError):
    """A server cannot be reached, or does not have the file."""


def download(url: str, path: Path, on_progress: OnProgress) -> None:
    """Download a file to `path`, which appears only when it is complete.

    Until then its bytes are in PATH.part. Together with the name of the server's version of the
    file (ETag or Last-Modified, in PATH.version) they allow the next call to continue. If the file
    has changed meanwhile or the server does not support ranges, the download starts again.

    Args:
        url: Address, HTTP or HTTPS.
        path: Where the file goes; its folder exists.
        on_progress: Called with "downloading", the bytes so far, and their final number, or None
            if the server does not announce it.

    Raises:
        UnavailableError: no network, no such server, or an answer such as 404.
        DataError: the connection was lost, or the disk is full.
    """
    part, marker = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.version")
    with _explain_errors(url, part):
        with _opened(url, part, marker) as response:
            start = part.stat().st_size if response.status == 206 else 0
            _save(response, part, start, on_progress)
        part.replace(path)
        marker.unlink(missing_ok=True)


def _opened(url: str, part: Path, marker: Path) -> http.client.HTTPResponse:
    """The answer: 206 with the rest of the file, or 200 with the whole file."""
    headers = {"User-Agent": f"tangential/{version('tangential')}", "Accept-Encoding": "identity"}
    start = part.stat().st_size if part.is_file() and marker.is_file() else 0
    resumed = {"Range": f"bytes={start}-", "If-Range": marker.read_text()} if start else {}
    request = urllib.request.Request(url, headers=headers | resumed)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:  # 416: there is nothing after the bytes that we have
            raise
        error.close()
        marker.unlink()
        return _opened(url, part, marker)
    ranges = response.headers.get("Content-Range", "")
    if response.status == 206 and not ranges.startswith(f"bytes {start}-"):
        response.close()
        marker.unlink(missing_ok=True)  # the next call starts again
        raise UnavailableError(f"{url} answered with the wrong part of the file ({ranges!r})")
    if response.status != 206:
        _mark(marker, response.headers)
    return response


def _mark(marker: Path, headers: http.client.HTTPMessage) -> None:
    """Store what identifies the server's version of a file; weak ETags must not (RFC 9110)."""
    tag = headers.get("ETag", "")
    tag = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    if tag:
        marker.write_text(tag)
    else:
        marker.unlink(missing_ok=True)


def _save(
    response: http.client.HTTPResponse, part: Path, start: int, on_progress: OnProgress
) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    if total is not None and total - start > (free := shutil.disk_usage(part.parent).free):
        raise DataError(
            f"{part.parent} must have {_mb(total - start)} of free space for {response.url}, "
            f"got {_mb(free)}"
        )
    done = start
    with part.open("ab" if start else "wb") as file:
        on_progress("downloading", done, total, "bytes")
        while block := response.read(BLOCK):
            file.write(block)
            done += len(block)
            on_progress("downloading", done, total, "bytes")
    if total is not None and done != total:
        raise ConnectionError(f"got {done:,} of {total:,} bytes")


@contextmanager
def _explain_errors(url: str, part: Path) -> Iterator[None]:
    host = urlsplit(url).hostname
    try:
        with explain_full_disk(part.parent):
            yield
    except urllib.error.HTTPError as error:
        error.close()
        raise UnavailableError(f"{url} answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"cannot reach {host} for {url}: {error.reason}") from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        size = _mb(part.stat().st_size) if part.is_file() else "0 bytes"
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"the connection to {host} was lost after {size} of {url} ({reason}). Run the same "
            "command again: it continues there if the server allows that"
        ) from error


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn the OSError of a full disk into a DataError that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DataError(
            f"the disk of {folder} is full ({error.strerror}). Free some space and run the same "
            "command again"
        ) from error


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
