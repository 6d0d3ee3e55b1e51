"""What a check says about a data set."""

import subprocess
from hashlib import sha256
from shutil import which

import pytest

from tangential_lab.experiments.data.sources import DataError, DataFolder
from tangential_lab.experiments.downloads.checksums import check_files, checksums, digest, record

LETTERS = DataFolder("letters", ("a.txt", "sounds"), "Get it from https://letters.example.")


@pytest.fixture
def letters(home):
    place = home / "letters"
    (place / "sounds").mkdir(parents=True)
    (place / "a.txt").write_text("a")
    (place / "sounds/é b.wav").write_text("b")
    (place / "sounds/.DS_Store").write_text("hidden")
    (place / "readme").write_text("is not read")
    return place


def test_only_files_that_are_read_count(letters):
    sums = checksums(LETTERS, letters)
    assert list(sums) == ["letters/a.txt", "letters/sounds/é b.wav"]
    assert sums["letters/a.txt"] == sha256(b"a").hexdigest()


@pytest.mark.skipif(not which("sha256sum"), reason="needs sha256sum")
def test_sha256sum_reads_the_record(letters, home):
    sums = checksums(LETTERS, letters)
    record(LETTERS, home, sums)
    command = ["sha256sum", "-c", "--strict", "letters.sha256"]
    subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=60)
    line = subprocess.run(
        ["sha256sum", "letters.sha256"], cwd=home, check=True, capture_output=True, timeout=60
    )
    assert line.stdout.decode().split()[0] == digest(sums)


def test_verdicts(letters, home):
    text = "complete; there is no checksum to compare its files with"
    assert check_files(LETTERS, home) == (True, text)
    record(LETTERS, home, checksums(LETTERS, letters))
    text = "complete; unchanged since the download (no published checksum is known)"
    assert check_files(LETTERS, home) == (True, text)
    published = LETTERS._replace(sha256=digest(checksums(LETTERS, letters)))
    text = "complete; its checksum is that of the published files"
    assert check_files(published, home) == (True, text)


def test_changed_added_and_removed_files_are_named(letters, home):
    record(LETTERS, home, checksums(LETTERS, letters))
    published = LETTERS._replace(sha256=digest(checksums(LETTERS, letters)))
    (letters / "a.txt").write_text("A")
    text = "changed since the download: letters/a.txt"
    assert check_files(LETTERS, home) == check_files(published, home) == (False, text)
    (letters / "sounds/é b.wav").rename(letters / "sounds/c.wav")
    assert check_files(LETTERS, home) == (False, f"{text} and 2 more")
    (home / "letters.sha256").unlink()
    text = "complete, but its files differ from the published ones"
    assert check_files(published, home) == (False, text)


def test_what_is_missing_is_named(letters, home):
    (letters / "a.txt").unlink()
    assert check_files(LETTERS, home) == (False, "incomplete, without a.txt")
    for path in (letters / "sounds").iterdir():
        path.unlink()
    assert check_files(LETTERS, home) == (False, "incomplete, without a.txt, sounds")
    assert check_files(LETTERS._replace(name="others"), home) is None


def test_a_broken_record_is_named(letters, home):
    (home / "letters.sha256").write_text("nonsense\n")
    with pytest.raises(DataError, match=r"letters\.sha256 must have lines of .*'nonsense'"):
        check_files(LETTERS, home)
