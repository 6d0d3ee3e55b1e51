"""A study's page while it runs, served on this machine and to it alone."""

import json
import re
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import cast

from tangential_lab.reports import error_page, page, report
from tangential_lab.studies import Plan
from tangential_lab.training import Records

HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "[::1]")  # of this machine, in a request
HTTP_PORT = 80  # where a request names none
PAUSE_S = 1.0  # between two looks at the study, however many browsers ask

Load = Callable[[], tuple[Plan, Records]]


class Watched:
    """The newest page of a study; rendered when something has changed and somebody asks."""

    def __init__(self, load: Load) -> None:
        self.load, self.lock = load, Lock()
        self.seen = -PAUSE_S
        self.version, self.page = "", ""  # the page is made when it is asked for
        self.found: tuple[Plan, Records] | str = ""  # a study, or an error

    def look(self) -> str:
        """The version of what there is now: a fingerprint of plan and trials, or of an error."""
        with self.lock:
            return self._look()

    def current(self) -> str:
        """The page of that version."""
        with self.lock:
            version = self._look()
            self.page = self.page or _rendered(self.found, version)
            return self.page

    def _look(self) -> str:
        if time.monotonic() - self.seen >= PAUSE_S:
            try:
                self.found = plan, records = self.load()
                version = _digest(plan.text(), *sorted(map(str, records)))
            except Exception as error:  # whatever a store raises: the next look may go well
                self.found = f"{type(error).__name__}: {error}"
                version = _digest(self.found)
            if version != self.version:
                self.version, self.page = version, ""
            self.seen = time.monotonic()
        return self.version


def _rendered(found: tuple[Plan, Records] | str, version: str) -> str:
    """The page of a study, or of an error: that of reading it, or of summing it up."""
    if not isinstance(found, str):
        try:
            return page(report(*found), live=True, version=version)
        except Exception as error:  # a page that fails must not end the watch
            found = f"{type(error).__name__}: {error}"
    return error_page(found, version)


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


class _Server(ThreadingHTTPServer):
    """Serves the page, and its version to a page that asks whether there is news."""

    daemon_threads = True
    allow_reuse_port = False  # else newer Pythons let two serve one port

    def __init__(self, load: Load, port: int) -> None:
        self.watched = Watched(load)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    timeout = 30  # seconds for a request: a connection that stays silent holds no thread for ever

    def do_GET(self) -> None:
        """Answer; only to names of this machine, so that no foreign page can read along."""
        served = cast(_Server, self.server)
        if not is_here(self.headers.get_all("Host", []), served.server_port):
            self.send_error(403)
        elif self.path == "/":
            self._send("text/html; charset=utf-8", served.watched.current())
        elif self.path == "/state":
            state = {"version": served.watched.look()}
            self._send("application/json", json.dumps(state))
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
        """Add what every answer says: it is what it is called, and no page may frame it."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")  # and the page's own
        super().end_headers()

    def handle(self) -> None:
        """Answer, as long as the browser waits for it."""
        with suppress(ConnectionError):
            super().handle()

    def version_string(self) -> str:
        """No version: what serves the page is nobody's business."""
        return "tangential"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is there
        """Say nothing: a line a second would bury the address."""


def is_here(hosts: Sequence[str], port: int) -> bool:
    """Whether the Host headers of a request name this machine, and the port that it serves.

    Browsers leave the port out where it is 80. Any other name may be one that a foreign page has
    let point to this machine (DNS rebinding).

    >>> [is_here([host], 80) for host in ("localhost", "LOCALHOST.:80", "[::1]", "evil.example")]
    [True, True, True, False]
    """
    if len(hosts) != 1:
        return False
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?", hosts[0].strip())
    if found is None:
        return False
    name, given = found[1].lower().removesuffix("."), int(found[2] or HTTP_PORT)
    return name in NAMES and given == port


def server(load: Load, port: int) -> _Server:
    """A server of the study's page, not yet serving.

    Args:
        load: The study's plan and what it has of records now; may raise, which the page shows.
        port: Of the page; 0 for one that is free.

    Raises:
        OSError: the port is taken or not allowed.
    """
    try:
        return _Server(load, port)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"port must be a free one up to 65535, or 0 for any, got {port}: {error}"
        ) from error


def watch(load: Load, port: int = 0, *, browse: bool = False) -> None:
    """Serve a study's page until Ctrl-C.

    Args:
        load: The study's plan and what it has of records now; may raise, which the page shows.
        port: Of the page; 0 for one that is free.
        browse: Open it in the browser.
    """
    with server(load, port) as served:
        print(f"{served.url} shows the study as it is; Ctrl-C ends it.", flush=True)
        if browse:
            webbrowser.open(served.url)
        try:
            served.serve_forever()
        except KeyboardInterrupt:
            print()
