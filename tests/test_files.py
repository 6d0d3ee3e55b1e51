"""A file is written whole or not at all."""

import pytest

from tangential.files import write_atomically


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with write_atomically(path) as file:
        file.write("old ‖w‖\n")

    def broken():
        with write_atomically(path) as file:
            file.write("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert path.read_bytes() == "old ‖w‖\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_the_partial_one(tmp_path):
    path = tmp_path / "nowhere" / "a.txt"
    with pytest.raises(FileNotFoundError) as raised, write_atomically(path):
        pass
    assert raised.value.filename == str(path)
