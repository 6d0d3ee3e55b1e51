"""The command `tangential watch`: serves the page of a study, only to this machine.

The standard library's server is enough. It serves two read-only addresses, answers any other
request with an error status, and closes silent connections after a time limit.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from cyclopts.types import Port

from tangential_lab.cli.study.location import DEFAULT_LOCATION, Location, study_errors
from tangential_lab.errors import Terminated
from tangential_lab.reports import error_page, page, report
from tangential_lab.studies import Plan
from tangential_lab.training import Records

HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "[::1]")  # names of this machine in a Host header
HTTP_PORT = 80  # the port that a Host header without a port means
PAUSE_S = 1.0  # seconds between two reads of the study, for any number of browsers

Load = Callable[[], tuple[Plan, Records]]


def watch(study: str, /, *, location: Location = DEFAULT_LOCATION, port: Port = 0) -> None:
    """Serve the page of a study on this machine while the study runs.

    Args:
        study: Name of the study, or its folder.
        location: Where studies are stored.
        port: Port of the page; by default any free one.
    """
    with study_errors():
        _, store = location.open(study)
        store.plan()
        serve(lambda: ((plan := store.plan()), store.records(plan)), port)


def serve(load: Load, port: int = 0) -> None:
    """Serve the page of a study, which also shows errors of `load`, until Ctrl-C."""
    with PageServer(load, port) as server:
        print(f"{server.url} shows the study while it runs. Press Ctrl-C to stop.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt as error:
            print()
            if isinstance(error, Terminated):
                raise


class PageServer(ThreadingHTTPServer):
    """Serves the page, and the study's version, which the page compares with its own.

    Raises:
        OSError: the port is not free or not allowed.
    """

    daemon_threads = True
    allow_reuse_port = False  # otherwise, newer versions of Python let two servers share a port

    def __init__(self, load: Load, port: int) -> None:
        self.study = WatchedStudy(load)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OSError(
                f"port must be a free port up to 65535, or 0 for any, got {port}: {error}"
            ) from error
        self.url = f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds: a silent connection must not keep its thread for ever
    server: Any  # a PageServer

    def do_GET(self) -> None:
        if not is_local(self.headers.get_all("Host", []), self.server.server_port):
            self.send_error(403)
        elif self.path == "/":
            self._send("text/html; charset=utf-8", self.server.study.page())
        elif self.path == "/state":
            self._send("application/json", json.dumps({"version": self.server.study.version()}))
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - `_send` and `send_error` leave the body out

    def _send(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")  # the page has more
        super().end_headers()

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser has closed the connection
            super().handle()

    def version_string(self) -> str:
        return "tangential"  # the Server header, without any versions

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass  # one line per second would hide the address


def is_local(hosts: Sequence[str], port: int) -> bool:
    """Whether the Host headers of a request name this machine and this port; 80 may be left out.

    Otherwise another website could read the page through a name that it has made point to this
    machine (DNS rebinding).

    >>> [is_local([host], 80) for host in ("localhost", "LOCALHOST.:80", "[::1]", "evil.example")]
    [True, True, True, False]
    """
    ports = ("", f":{port}") if port == HTTP_PORT else (f":{port}",)
    spellings = {name + dot + end for name in NAMES for dot in ("", ".") for end in ports}
    return len(hosts) == 1 and hosts[0].strip().lower() in spellings


class WatchedStudy:
    """The newest page of a study; it is rendered when the study has changed and a browser asks."""

    def __init__(self, load: Load) -> None:
        self.load, self.lock = load, Lock()
        self.read_s = -PAUSE_S  # time of the last read
        self._version, self._page = "", ""  # the page is rendered when it is asked for
        self.content: tuple[Plan, Records] | Exception = ValueError()

    def version(self) -> str:
        """The current version: a fingerprint of the plan and its trials, or of an error."""
        with self.lock:
            return self._read()

    def page(self) -> str:
        """The page of the current version."""
        with self.lock:
            version = self._read()
            self._page = self._page or self._rendered(version)
            return self._page

    def _read(self) -> str:
        if time.monotonic() - self.read_s >= PAUSE_S:
            try:
                self.content = plan, records = self.load()
                text = "\n".join([plan.text(), *sorted(map(str, records))])
            except Exception as error:  # any error of a store: the next read may succeed
                self.content, text = error, repr(error)
            version = sha256(text.encode()).hexdigest()[:16]
            if version != self._version:
                self._version, self._page = version, ""
            self.read_s = time.monotonic()
        return self._version

    def _rendered(self, version: str) -> str:
        try:
            if isinstance(self.content, Exception):
                raise self.content
            return page(report(*self.content), live=True, version=version)
        except Exception as error:  # a study that cannot be shown must not end the server
            return error_page(f"{type(error).__name__}: {error}", version)
