"""A server on this machine that offers files, with or without what a good server supports."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class FileServer:
    """Serves `files` by path; a context manager.

    Attributes:
        files: Content by path, such as "/a.zip".
        ranges: Whether it supports Range.
        tag: ETag of every file; None sends neither ETag nor Last-Modified.
        cut_after: Close the connection after so many bytes of a file.
        length: Whether it announces the length; otherwise the answer is sent in chunks.
        shift: Answer with a range that starts so many bytes too late.
        requests: Path and Range of every request so far.
    """

    def __init__(self):
        self.files, self.requests = {}, []
        self.ranges, self.tag, self.cut_after, self.length, self.shift = True, '"v1"', None, True, 0

    def __enter__(self):
        handler = type("Handler", (Handler,), {"settings": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    settings: FileServer

    def do_GET(self):
        settings, self.close_connection = self.settings, True
        wanted = self.headers.get("Range")
        path = self.path.partition("?")[0]
        settings.requests.append((path, wanted))
        if path not in settings.files:
            self.send_error(404)
            return
        content, start = settings.files[path], 0
        is_same = self.headers.get("If-Range") == settings.tag
        if wanted and settings.ranges and is_same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            start += settings.shift
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self._send(content[start:])

    def _send(self, content):
        settings = self.settings
        if settings.tag:
            self.send_header("ETag", settings.tag)
        name = ("Content-Length", str(len(content))) if settings.length else None
        self.send_header(*(name or ("Transfer-Encoding", "chunked")))
        self.end_headers()
        sent = content[: settings.cut_after]
        self.wfile.write(sent if settings.length else b"%x\r\n%s\r\n" % (len(sent), sent))
        if not settings.length and len(sent) == len(content):
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format, *args):  # noqa: A002
        pass
