"""A damaged file is diagnosed, or refused in one line, and never ends in a traceback."""

import random

import pytest
from diagnosed_runs import made_up_run, written
from test_diagnose import call

from tangential.monitor import sinks
from tangential.monitor.sinks.csv_file import cells, encoded
from tangential.monitor.sinks.rows import FIELDS

CELLS = (
    *(b"", b"0", b"-0.0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e308", b"1e-320", b"-1e308"),
    *(b"9" * 30, b"9" * 5000, b"x", b"'", b'"', b"1,", b"\x00", b"\xff", "\u0661".encode(), b"all"),
)


BYTES = b',\n\r"\x00\xff-+.e0123456789= '


def damaged(data, drawn):
    """A file with one to six damages."""
    for _ in range(drawn.choice((1, 1, 2, 3, 6))):
        damage = drawn.choice((in_bytes, in_a_cell, in_rows, in_lines, in_a_column))
        data = damage(data, drawn)
    return data


def in_bytes(data, drawn):
    at, byte = drawn.randrange(len(data) + 1), bytes([drawn.choice(BYTES)])
    rest = (b"", byte + data[at + 1 :], byte + data[at:], data[at + drawn.randrange(200) :])
    return data[:at] + drawn.choice(rest)


def in_a_cell(data, drawn):
    rows = [line.split(b",") for line in data.split(b"\n")]
    row = drawn.choice(rows)
    row[drawn.randrange(len(row))] = drawn.choice(CELLS)
    return b"\n".join(map(b",".join, rows))


def in_rows(data, drawn):
    """Replace the numbers of one row, of half of them, or of all."""
    first, *rows = (line.split(b",") for line in data.split(b"\n"))
    value = drawn.choice(CELLS[:12])
    for row in drawn.choice((rows, rows[:1], drawn.sample(rows, len(rows) // 2))):
        row[2:] = [value if cell else cell for cell in row[2:]]
    return b"\n".join(map(b",".join, [first, *rows]))


def in_a_column(data, drawn):
    first, *rows = (line.split(b",") for line in data.split(b"\n"))
    value, column = drawn.choice(CELLS[:12]), drawn.randrange(2, len(FIELDS))
    for row in rows:
        row[column : column + 1] = [value] if len(row) > column else []
    return b"\n".join(map(b",".join, [first, *rows]))


def in_lines(data, drawn):
    """Shuffle the lines, repeat them, or leave some out."""
    first, *lines = data.split(b"\n")
    count = drawn.randrange(len(lines) + 1)
    drawn_ = (drawn.sample(lines, count), lines * 2, drawn.sample(lines, len(lines)))
    return b"\n".join([first, *drawn.choice(drawn_)])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.slow
def test_a_damaged_csv_is_diagnosed_or_refused_in_one_line(seed, tmp_path, capsys):
    drawn, path = random.Random(seed), tmp_path / "run.csv"
    whole = encoded([FIELDS, *map(cells, made_up_run())])
    codes = []
    for number in range(100):
        path.write_bytes(data := damaged(whole, drawn))
        try:
            code, text = call(capsys, path)
        except Exception as error:
            raise AssertionError(f"{number}: {data!r}") from error
        assert code == 0 or (text.startswith("Stopped: ") and len(text.splitlines()) == 1), data
        codes.append(code)
    assert 20 < sum(codes) < 80  # some can be diagnosed, others not


def test_damaged_parquet_is_refused_in_one_line(tmp_path, capsys):
    drawn, folder = random.Random(0), tmp_path / "run"
    written(made_up_run(), sinks.parquet(folder))
    part = next(folder.iterdir())
    whole = part.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(drawn.randrange(1, 20)):
            data[drawn.randrange(len(data))] = drawn.randrange(256)
        part.write_bytes(data)
        code, text = call(capsys, folder)
        assert code == 0 or (text.startswith("Stopped: ") and len(text.splitlines()) == 1)
