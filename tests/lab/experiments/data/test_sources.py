"""Where data sets are found, and what is prepared from them once."""

from pathlib import Path

import numpy as np
import pytest

from tangential_lab.experiments.data.sources import DataError, DataFolder, prepared
from tangential_lab.training import DataSource


def test_another_process_may_have_prepared_the_same_meanwhile(home, monkeypatch):
    rename = Path.rename

    def late(whole, place):
        place.mkdir()
        np.save(place / "a.npy", np.arange(3))
        (place / "names.json").write_text('["a"]')
        return rename(whole, place)

    monkeypatch.setattr(Path, "rename", late)
    found = prepared("test", DataSource("numbers", "0" * 16), lambda: {"a": np.arange(3)})
    assert found["a"].tolist() == [0, 1, 2]
    assert len(list((home.parent / "cache/tangential/prepared").iterdir())) == 1  # nothing is left


@pytest.mark.parametrize("damage", [b"", b"text", b"\x93NUMPY\x01\x00", None])
@pytest.mark.parametrize("file", ["b.npy", "names.json"])
def test_a_damaged_cache_is_made_again(file, damage, home):
    """By a power failure, for instance."""
    data, arrays = DataSource("numbers", "0" * 16), {"a": np.arange(3), "b": np.ones(2)}
    prepared("test", data, lambda: arrays)
    [folder] = (home.parent / "cache/tangential/prepared").iterdir()
    (folder / file).unlink()
    if damage is not None:
        (folder / file).write_bytes(damage)
    assert prepared("test", data, lambda: arrays)["b"].tolist() == [1, 1]
    assert prepared("test", data, dict)["b"].tolist() == [1, 1]


def test_errors_of_writing_prepared_arrays_are_raised(home, monkeypatch):
    def full(whole, place):
        raise OSError("no space")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        prepared("test", DataSource("numbers", "0" * 16), lambda: {"a": np.arange(3)})


# ---- where data sets are found

LETTERS = DataFolder("letters", ("a.txt", "b.txt"), "Get it from https://letters.example.")


def test_the_files_of_a_data_set_are_found(home, monkeypatch):
    assert LETTERS.find(home) is None
    (home / "letters").mkdir()
    for file in LETTERS.files:
        (home / "letters" / file).touch()
    paths = [home / "letters" / file for file in LETTERS.files]
    assert LETTERS.find(home) == LETTERS.require(home) == paths
    monkeypatch.setenv("TANGENTIAL_DATA", str(home))
    assert LETTERS.find(None) == paths


def test_errors_say_what_is_missing_where_and_how_to_get_it(home):
    with pytest.raises(DataError, match=r"no data folder was given: pass --data DIR .*Get it"):
        LETTERS.require(None)
    with pytest.raises(DataError, match=r"has no folder 'letters': .* a\.txt, b\.txt\. Get it"):
        LETTERS.require(home)
    (home / "letters").mkdir()
    (home / "letters/a.txt").touch()
    with pytest.raises(DataError, match=r"letters/b\.txt is missing: .*Get it from"):
        LETTERS.find(home)
    with pytest.raises(DataError, match=r"--data .* must be a folder, got '.*nowhere'"):
        LETTERS.find(home / "nowhere")


def test_what_a_reader_raises_names_the_file(home):
    with (
        pytest.raises(DataError, match=r"cannot read .*a\.txt as numbers: ValueError: .*'x'.*Get"),
        LETTERS.reading(home / "letters/a.txt", "numbers"),
    ):
        int("x")
