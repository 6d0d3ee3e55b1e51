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
