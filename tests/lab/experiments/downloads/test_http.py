"""One file: whole, resumed, from servers that support little, and everything that can fail."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tangential_lab.experiments.data.sources import DataError
from tangential_lab.experiments.downloads import http

CONTENT = os.urandom(1_000_000)


@pytest.fixture
def url(server):
    server.files["/a.bin"] = CONTENT
    return server.url("/a.bin")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.bin"


def names(path):
    return sorted(p.name for p in path.parent.iterdir())


@pytest.mark.parametrize("length", [True, False])
def test_a_whole_file(length, server, url, path, on_progress, shown):
    server.length = length
    http.download(url, path, on_progress)
    assert path.read_bytes() == CONTENT
    assert names(path) == ["a.bin"]
    counts = [done for _, done, _, _ in shown]
    assert counts == sorted(counts)
    total = len(CONTENT)
    assert (shown[0], shown[-1]) == (
        ("downloading", 0, total if length else None, "bytes"),
        ("downloading", total, total if length else None, "bytes"),
    )


@pytest.mark.parametrize("length", [True, False])
def test_a_cut_connection_is_one_line_and_the_next_call_continues(
    length, server, url, path, on_progress, shown
):
    server.cut_after, server.length = 600_000, length
    lost = r"connection to 127\.0\.0\.1 was lost after .* MB of .*Run the same command again"
    with pytest.raises(DataError, match=lost):
        http.download(url, path, on_progress)
    assert names(path) == ["a.bin.part", "a.bin.version"]
    start = (path.parent / "a.bin.part").stat().st_size
    assert 0 < start <= 600_000
    server.cut_after = None
    shown.clear()
    http.download(url, path, on_progress)
    assert path.read_bytes() == CONTENT
    assert names(path) == ["a.bin"]
    assert server.requests == [("/a.bin", None), ("/a.bin", f"bytes={start}-")]
    assert shown[0][1] == start


@pytest.mark.parametrize("change", [{"ranges": False}, {"tag": '"v2"'}, {"tag": None}])
def test_a_download_that_cannot_continue_starts_again(change, server, url, path, on_progress):
    server.cut_after = 600_000
    with pytest.raises(DataError):
        http.download(url, path, on_progress)
    new = CONTENT[::-1]
    server.files["/a.bin"], server.cut_after = new, None
    for name, value in change.items():
        setattr(server, name, value)
    http.download(url, path, on_progress)
    assert path.read_bytes() == new
    assert server.requests[-1][1] is not None


@pytest.mark.parametrize("tag", [None, 'W/"v1"'])
def test_without_a_strong_version_a_part_is_never_continued(tag, server, url, path, on_progress):
    server.tag, server.cut_after = tag, 600_000
    for cut_after in (600_000, None):
        server.cut_after = cut_after
        if cut_after:
            with pytest.raises(DataError, match="was lost"):
                http.download(url, path, on_progress)
        else:
            http.download(url, path, on_progress)
    assert server.requests == [("/a.bin", None)] * 2
    assert path.read_bytes() == CONTENT


def test_a_connection_that_is_cut_again_and_again(server, url, path, on_progress):
    server.cut_after = 300_000
    for _ in range(3):
        with pytest.raises(DataError, match="was lost"):
            http.download(url, path, on_progress)
    http.download(url, path, on_progress)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_part_that_is_complete_already(server, url, path, on_progress):
    path.with_name("a.bin.part").write_bytes(CONTENT)
    path.with_name("a.bin.version").write_text('"v1"')
    http.download(url, path, on_progress)
    assert path.read_bytes() == CONTENT


def test_a_wrong_range_is_refused_and_not_used(server, url, path, on_progress):
    path.with_name("a.bin.part").write_bytes(CONTENT[:1000])
    path.with_name("a.bin.version").write_text('"v1"')
    server.shift = 7
    with pytest.raises(DataError, match="wrong part of the file"):
        http.download(url, path, on_progress)
    http.download(url, path, on_progress)
    assert path.read_bytes() == CONTENT


def test_what_a_server_lacks(server, path, on_progress):
    with pytest.raises(http.UnavailableError, match=r"/none answered 404 Not Found"):
        http.download(server.url("/none"), path, on_progress)
    assert names(path) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [("http://127.0.0.1:1/a", "Connection refused"), ("http://nothing.invalid/a", "cannot reach")],
)
def test_no_network(address, words, path, on_progress):
    with pytest.raises(http.UnavailableError, match=words):
        http.download(address, path, on_progress)
    assert names(path) == []


def test_a_server_that_stops_sending(server, url, path, on_progress, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT_S", 0.2)

    def waits(_, content):
        handler = _
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:1000])
        handler.wfile.flush()
        handler.connection.recv(1)  # until the other side closes

    monkeypatch.setattr(server.server.RequestHandlerClass, "_send", waits)
    with pytest.raises(DataError, match=r"was lost .*TimeoutError"):
        http.download(url, path, on_progress)


def test_too_little_space_is_reported_before_anything_is_written(
    url, path, on_progress, monkeypatch
):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(999_999))
    with pytest.raises(DataError, match=r"must have 1\.0 MB of free space for http.*, got 1\.0 MB"):
        http.download(url, path, on_progress)
    assert not path.with_name("a.bin.part").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_disk_that_is_full_meanwhile(url, path, on_progress):
    path.with_name("a.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"the disk of .* is full \(No space left on device\)"):
        http.download(url, path, on_progress)
    assert not path.exists()
