"""The server of a study's page: whom it answers, and how."""

import http.client
import socket
import threading

import made_study as made
import pytest

from tangential_lab.cli.study import watch
from tangential_lab.cli.study.watch import is_local


@pytest.fixture(scope="module")
def port():
    plan = made.plan(("sgd", "sgdp"), trials=2, seeds=2)
    with watch.PageServer(lambda: (plan, {}), 0) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        yield served.server_port
        served.shutdown()
        thread.join()


def asked(port, path="/", method="GET", **headers):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LocalHost", "localhost.", "[::1]", "127.0.0.1:80"),
        *("localhost:80", "LOCALHOST.:80", "[::1]:80", " localhost "),
    ],
)
def test_names_of_this_machine_with_and_without_the_usual_port(host):
    assert is_local([host], 80)
    assert not is_local([host], 8080)
    if host.endswith(":80"):
        assert is_local([f"{host}80"], 8080)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io"),
        *("localhost:81", "localhost:", "localhost:x", "localhost:80:80", ":80", "[::1", "::1"),
        *("[::2]", "127.0.0.2", "0.0.0.0", "localhost:99999999", "localhost,evil.example"),
        *("localhost..", "user@localhost", "localhost/", "localhost:٨٠"),
    ],
)
def test_foreign_names(host):
    assert not is_local([host], 80)


def test_one_name_only():
    assert not is_local([], 80)
    assert not is_local(["localhost", "localhost"], 80)
    assert not is_local(["localhost", "evil.example"], 80)


def test_a_page_that_no_other_page_can_read_or_frame(port):
    for path, kind in (("/", "text/html; charset=utf-8"), ("/state", "application/json")):
        status, headers, body = asked(port, path)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert headers["Server"] == "tangential"
        assert int(headers["Content-Length"]) == len(body.encode())
        assert asked(port, path, Host="evil.example")[0] == 403
        assert asked(port, path, Host=f"LOCALHOST:{port}")[0] == 200


def test_head_is_get_without_the_body(port):
    for path, status in (("/", 200), ("/state", 200), ("/nothing", 404)):
        got, headers, body = asked(port, path, "HEAD")
        assert (got, body) == (status, "")
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert asked(port, "/", "HEAD", Host="evil.example")[0] == 403
    assert asked(port, "/", "HEAD")[1]["Content-Length"] == asked(port)[1]["Content-Length"]


@pytest.mark.parametrize("path", ["/../study.db", "/..%2fstudy.db", "/?x", "/state/", "/%00"])
def test_there_are_no_other_paths(path, port):
    status, headers, body = asked(port, path)
    assert status == 404
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Traceback" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
def test_nothing_can_be_changed(method, port):
    assert asked(port, "/", method)[0] == 501


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"\x00\xff\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request(request_, status, port, capfd):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request_)
        assert status in connection.recv(200)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")  # and gone
    assert asked(port)[0] == 200
    assert capfd.readouterr() == ("", "")
