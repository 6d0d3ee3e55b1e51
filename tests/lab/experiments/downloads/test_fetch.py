"""A data set is complete or absent, whatever happens while it is fetched."""

import errno
import gzip
import shutil
from hashlib import sha256

import pytest
from filelock import FileLock
from test_archives import packed

from tangential_lab.experiments.data.sources import DataError, DataFolder, Download
from tangential_lab.experiments.downloads import check_files, fetch, part_of
from tangential_lab.experiments.downloads.checksums import checksums, digest

HINT = "Get it from https://letters.example."
FILES = {"top/a.txt": b"a" * 700_000, "top/sounds/b.wav": b"b", "readme": b"r"}


@pytest.fixture
def archive(tmp_path, server):
    server.files["/letters.zip"] = packed(tmp_path / "letters.zip", FILES).read_bytes()
    return server.files["/letters.zip"]


@pytest.fixture
def letters(server, archive):
    download = Download(server.url("/letters.zip"), root="top")
    return DataFolder("letters", ("a.txt", "sounds"), HINT, downloads=(download,))


def pinned(folder, value):
    return folder._replace(downloads=(folder.downloads[0]._replace(sha256=value),))


def names(home):
    return sorted(path.name for path in home.iterdir() if not path.name.startswith("."))


def test_an_archive_becomes_a_data_set(letters, home, on_progress, shown):
    fetch(letters, home, on_progress)
    assert names(home) == ["letters", "letters.sha256"]
    assert (home / "letters/a.txt").read_bytes() == b"a" * 700_000
    assert letters.require(home) == [home / "letters/a.txt", home / "letters/sounds"]
    lines = (home / "letters.sha256").read_text().splitlines()
    assert lines[1] == f"{sha256(b'b').hexdigest()}  letters/sounds/b.wav"
    assert len(lines) == 2
    assert {what for what, *_ in shown} == {"downloading", "unpacking", "checksums"}


def test_a_complete_data_set_is_not_fetched_again(letters, home, server, on_progress):
    for _ in range(2):
        fetch(letters, home, on_progress)
    assert len(server.requests) == 1


def test_single_files_go_where_they_belong(server, home, on_progress):
    server.files |= {"/x/a.txt": b"text", "/x/b.gz": gzip.compress(b"numbers")}
    downloads = (
        Download(server.url("/x/a.txt"), "a.txt"),
        Download(server.url("/x/b.gz?download=1"), "raw/b"),
    )
    fetch(DataFolder("s", ("a.txt", "raw/b"), HINT, downloads=downloads), home, on_progress)
    assert (home / "s/a.txt").read_bytes() == b"text"
    assert (home / "s/raw/b").read_bytes() == b"numbers"


def test_an_incomplete_data_set_of_the_user_is_not_touched(letters, home, server, on_progress):
    (home / "letters").mkdir()
    (home / "letters/a.txt").write_text("mine")
    with pytest.raises(DataError, match=r"letters is incomplete, and is not overwritten: move it"):
        fetch(letters, home, on_progress)
    assert (home / "letters/a.txt").read_text() == "mine"
    assert not server.requests


def test_without_an_address_the_hint_says_how(home, on_progress):
    with pytest.raises(DataError, match=r"letters cannot be downloaded by this command\. Get it"):
        fetch(DataFolder("letters", ("a.txt",), HINT), home, on_progress)
    assert names(home) == []


def test_an_interrupted_download_is_continued(letters, home, server, on_progress):
    def interrupt(what, done, *_):
        if done:
            raise KeyboardInterrupt

    server.files["/letters.zip"] += b"\0" * 1_000_000  # a comment after the archive
    with pytest.raises(KeyboardInterrupt):
        fetch(letters, home, interrupt)
    assert names(home) == ["letters.part"]
    part = part_of(letters, home) / "letters.zip.part"
    start = part.stat().st_size
    assert 0 < start < len(server.files["/letters.zip"])
    assert letters.find(home) is None
    with pytest.raises(DataError, match="cannot unpack"):  # because of these zeros
        fetch(letters, home, on_progress)
    assert server.requests[1] == ("/letters.zip", f"bytes={start}-")


def test_an_interruption_while_unpacking_downloads_nothing_again(
    letters, home, server, on_progress
):
    def interrupt(what, *_):
        if what == "unpacking":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(letters, home, interrupt)
    assert names(home) == ["letters.part"]
    fetch(letters, home, on_progress)
    assert names(home) == ["letters", "letters.sha256"]
    assert len(server.requests) == 1


def test_a_wrong_checksum_of_a_download(letters, home, archive, server, on_progress):
    right = sha256(archive).hexdigest()
    server.files["/letters.zip"] = archive[:-1] + b"x"
    with pytest.raises(DataError, match=rf"must have the SHA-256 {right}, got .* removed: .*Get"):
        fetch(pinned(letters, right), home, on_progress)
    assert names(home) == []
    server.files["/letters.zip"] = archive
    fetch(pinned(letters, right), home, on_progress)
    assert check_files(pinned(letters, right), home).text.endswith("(with the published checksum)")


def test_a_wrong_checksum_of_the_files(letters, home, archive, server, tmp_path, on_progress):
    fetch(letters, tmp_path, on_progress)
    known = letters._replace(sha256=digest(checksums(letters, tmp_path / "letters")))
    changed = packed(tmp_path / "b.zip", FILES | {"top/sounds/b.wav": b"c"})
    server.files["/letters.zip"] = changed.read_bytes()
    with pytest.raises(DataError, match="the authors have changed them"):
        fetch(known, home, on_progress)
    assert names(home) == []
    server.files["/letters.zip"] = archive
    fetch(known, home, on_progress)
    assert check_files(known, home).text == "complete; its checksum is that of the published files"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"top/a.txt": b"a"}, "what was downloaded lacks sounds"),
        ({"top/a.txt": b"a", "../evil": b"e"}, "outside of its folder"),
    ],
)
def test_a_wrong_archive_is_removed(files, words, letters, home, server, tmp_path, on_progress):
    server.files["/letters.zip"] = packed(tmp_path / "wrong.zip", files).read_bytes()
    with pytest.raises(DataError, match=words):
        fetch(letters, home, on_progress)
    assert not (home / "letters").exists()
    server.files["/letters.zip"] = packed(tmp_path / "right.zip", FILES).read_bytes()
    fetch(letters, home, on_progress)
    assert letters.find(home)


def test_a_full_disk_while_unpacking(letters, home, on_progress, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(DataError, match=r"the disk of .* is full .* run the same command"):
            fetch(letters, home, on_progress)
    assert names(home) == ["letters.part"]
    fetch(letters, home, on_progress)
    assert letters.find(home)


def test_what_a_server_lacks_ends_with_the_hint(letters, home, server, on_progress):
    server.files.clear()
    with pytest.raises(DataError, match=r"answered 404 Not Found\. Get it from https://letters"):
        fetch(letters, home, on_progress)
    assert list(home.iterdir()) == []


def test_two_processes_do_not_fetch_the_same(letters, home, on_progress):
    with (
        FileLock(home / ".letters.lock"),
        pytest.raises(DataError, match="another process is fetching letters"),
    ):
        fetch(letters, home, on_progress)
    fetch(letters, home, on_progress)
    assert letters.find(home)
