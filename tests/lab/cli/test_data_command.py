"""`tangential data`: what it prints, its exit status, and errors in one line."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from processes import call, is_one_line

from tangential_lab.experiments.data import texts
from tangential_lab.experiments.data.sources import Download

NAME = "tinyshakespeare"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The folder of a server on this machine, which takes the place of the authors' server."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    download = Download(f"http://127.0.0.1:{server.server_port}/input.txt", "input.txt")
    local = texts.SHAKESPEARE._replace(downloads=(download,), sha256=None)
    monkeypatch.setattr(texts, "SHAKESPEARE", local)
    yield folder
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_list_fits_and_says_everything(capsys, monkeypatch, home):
    monkeypatch.setenv("COLUMNS", "80")
    (home / "wikitext-2").mkdir()
    status, out, err = call(capsys, "data", "list", "--data", home)
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if "https://" not in line and str(home) not in line]
    assert max(map(len, lines)) <= 80
    assert "MNIST: 55 MB, not found, `fetch` downloads it" in lines
    assert "imagenet: 145 GB, not found, get it yourself" in lines
    assert "wikitext-2: 13 MB, incomplete" in lines
    assert "  MNIST: 70,000 handwritten digits; by Y. LeCun" in out
    assert "licence: CC BY-SA 4.0" in out
    assert "files for detection: BCCD" in out


def test_list_of_one(capsys):
    status, out, _ = call(capsys, "data", "list", "MNIST")
    assert status == 0
    assert "BCCD" not in out


def test_fetch_list_and_check_agree(capsys, published, home):
    (published / "input.txt").write_text("To be")
    status, out, err = call(capsys, "data", "fetch", NAME, "--data", home / "new")
    assert (status, err) == (0, "")
    assert "licence: public domain" in out
    assert "is complete (no published checksum is known)" in " ".join(out.split())
    assert (home / "new" / NAME / "input.txt").read_text() == "To be"
    assert "1 MB, found" in call(capsys, "data", "list", NAME, "--data", home / "new")[1]
    assert "complete already" in call(capsys, "data", "fetch", NAME, "--data", home / "new")[1]
    status, out, _ = call(capsys, "data", "check", home / "new")
    assert status == 0
    assert "unchanged since the download" in " ".join(out.split())
    (home / "new" / NAME / "input.txt").write_text("or not")
    status, out, _ = call(capsys, "data", "check", home / "new")
    assert status == 1
    assert f"changed since the download: {NAME}/input.txt" in " ".join(out.split())


def test_an_unfinished_download_is_named(capsys, published, home):
    status, _, err = call(capsys, "data", "fetch", NAME, "--data", home)
    assert status == 1
    assert is_one_line(err)
    assert "answered 404 File not found. Get data/tinyshakespeare" in err
    assert list(home.iterdir()) == []
    (home / f"{NAME}.part").mkdir()
    status, out, _ = call(capsys, "data", "check", home)
    assert status == 1
    assert f"{NAME}: download not finished" in out
    assert "download not finished" in call(capsys, "data", "list", NAME, "--data", home)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch"], "no data set was named: see `tangential data list`"),
        (["fetch", "MINST"], "unknown data set 'MINST'. Did you mean 'MNIST'?"),
        (["fetch", "MNIST"], "no folder of data sets was given: pass --data DIR"),
        (["fetch", "coco", "MNIST", "--data", "new"], "coco cannot be downloaded by this command"),
        (["fetch", "MNIST", "--data", "file"], "File exists: 'file'"),
        (["check"], "no folder of data sets was given"),
        (["check", "nothing"], "must be a folder, got 'nothing'"),
        (["check", "."], "contains no data set: see `tangential data list`"),
        (["list", "MINST"], "Did you mean 'MNIST'?"),
        (["list", "--data", "nothing"], "must be a folder, got 'nothing'"),
    ],
)
def test_errors_are_one_line(arguments, words, capsys, home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "file").write_text("text")
    status, out, err = call(capsys, "data", *arguments)
    assert (status, out) == (1, "")
    assert is_one_line(err)
    assert words in err
    assert [path.name for path in home.iterdir()] == ["file"]  # nothing was begun
