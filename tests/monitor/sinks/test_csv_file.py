"""The CSV file: its format, incomplete and foreign files, and long ones."""

import csv

import pytest
from sink_cases import expected, log, rows, same, values

from tangential.monitor import sinks
from tangential.monitor.sinks import csv_file
from tangential.monitor.sinks.rows import FIELDS, rows_of_log


def test_the_file_is_complete_after_every_log(tmp_path):
    sink = sinks.csv(tmp_path / "run.csv")
    for number, step in enumerate((0, 50, 100), 1):
        sink(values(step), step)
        text = (tmp_path / "run.csv").read_text()
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1 + 2 * number
    rows = [line.split(",") for line in text.splitlines()]
    assert tuple(rows[0]) == FIELDS
    assert {len(row) for row in rows} == {len(FIELDS)}
    place = FIELDS.index("equilibrium_rad")
    assert [row[place] for row in rows[1:3]] == ["nan", ""]


def test_labels_with_commas_quotes_and_line_breaks_come_back(tmp_path):
    memory, sink = sinks.memory(), sinks.csv(tmp_path / "run")
    for to in (memory, sink):
        to({'a,b"c\nd é/x/norm': 1.0}, 0)
    assert memory[0]["label"] == 'a,b"c\nd é/x'
    assert rows(tmp_path / "run") == memory


@pytest.mark.parametrize(
    "label", ["=1+1", "+a", "-0.weight", "@x", "\tx", "'=1", "''+", "'a", "a=b"]
)
def test_no_label_is_a_formula_and_all_come_back(label, tmp_path):
    sink = sinks.csv(tmp_path / "run.csv")
    sink({f"{label}/norm": -1.5, "all/norm": 2.0}, 3)
    with (tmp_path / "run.csv").open(newline="") as file:
        raw = [*csv.reader(file)][1:]
    assert not raw[0][1].startswith(("=", "+", "-", "@", "\t"))
    assert raw[0][2] == "-1.5"  # numbers are not quoted
    assert raw[1][1] == "all"
    assert rows(tmp_path / "run.csv")[0] == {"step": 3, "label": label, "norm": -1.5}


def test_an_unquoted_formula_is_read_unchanged(tmp_path):
    sinks.csv(tmp_path / "run.csv")({"x/norm": 1.0}, 3)
    old = (tmp_path / "run.csv").read_bytes().replace(b"3,x", b"3,=x")
    (tmp_path / "run.csv").write_bytes(old)
    assert rows(tmp_path / "run.csv")[0]["label"] == "=x"


def test_a_run_resumes_in_a_file_that_excel_saved(tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0, 1, 2)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    log(sinks.csv(path), 2, 3)
    assert same(rows(path), expected(0, 1, 2, 3))


# ---- incomplete and foreign files


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_an_incomplete_last_line_is_dropped_with_a_warning(cut, tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0, 1, 2)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="last line is cut off"):
        assert same(rows(path), expected(0, 1, 2)[:-1])
    with pytest.warns(UserWarning, match="last line is cut off"):
        sink = sinks.csv(path)
    log(sink, 3)
    assert same(rows(path), expected(0, 1, 2)[:-1] + expected(3))


def test_a_last_line_that_ends_within_a_label_is_incomplete(tmp_path):
    path = tmp_path / "run.csv"
    sink = sinks.csv(path)
    sink({"all/norm": 1.0}, 0)
    whole = path.read_bytes()
    path.write_bytes(whole + b'1,"two\n')
    with pytest.warns(UserWarning, match="cut off"):
        assert rows(path) == [{"step": 0, "label": "all", "norm": 1.0}]


@pytest.mark.parametrize(
    ("part", "why"),
    [(b"9,w,1.", "Delete this row"), (b'9,"w\n', "mark in it is never closed"), (b"\n", "")],
)
def test_a_part_of_a_row_within_a_file_hides_no_later_row(part, why, tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0)
    path.write_bytes(path.read_bytes() + part)
    with path.open("ab") as file:
        file.write(csv_file.encoded(map(csv_file.cells, expected(1))))
    if why:
        with pytest.raises(ValueError, match=f"row {2 + len(expected(0))} .*{why}"):
            rows(path)
    else:  # a blank line
        assert same(rows(path), expected(0, 1))


@pytest.mark.parametrize(
    "end", [b'4,"c,d",1.0', b'4,"c",1.0\n', b'4,"c,d",1,,,,,,,,,,,,,,,,,,,,,,,\n']
)
def test_rows_between_two_quotation_marks_are_not_lost(end, tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0)
    log(sinks.csv(path), 1)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b'1,"a,b\n', *lines[2:], end])
    path.write_bytes(damaged)
    for use in (sinks.csv, rows):
        with pytest.raises(ValueError, match=r"row 3 .*mark in it is never closed"):
            use(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("length", [0, 3, 40])
def test_a_file_that_ends_within_its_heading_is_restarted(length, tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(csv_file.encoded([FIELDS])[:length])
    log(sinks.csv(path), 0)
    assert same(rows(path), expected(0))


@pytest.mark.parametrize(
    "data",
    [b"hello", b"a,b\n1,2\n", b"\xff\xfe\n\n", ",".join(FIELDS[:-1]).encode() + b"\n"],
    ids=["text", "other CSV", "bytes", "other columns"],
)
def test_a_foreign_file_is_refused_and_unchanged(data, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(data)
    for use in (sinks.csv, rows):
        with pytest.raises(ValueError, match=r"mine\.csv was not written by .*step,label,norm"):
            use(path)
    assert path.read_bytes() == data


def test_a_foreign_line_is_named(tmp_path):
    path = tmp_path / "run.csv"
    log(sinks.csv(path), 0)
    path.write_bytes(path.read_bytes().replace(b"0,a.weight,0.1", b"0,a.weight,much"))
    with pytest.raises(ValueError, match=r"run\.csv: row 3 is '0,a\.weight,much"):
        rows(path)


def test_notes_at_the_end_of_a_file_are_not_dropped(tmp_path):
    path = tmp_path / "run.csv"
    many(path, range(8))
    path.write_bytes(data := path.read_bytes() + b"learning rate was too high\n8,all,1.0\n")
    with pytest.raises(ValueError, match=r"row 354 is 'learning rate was too high'"):
        sinks.csv(path)
    assert path.read_bytes() == data


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a file, but .* is a folder"):
        sinks.csv(tmp_path)


# ---- long files


def many(path, steps, labels=40):
    """A file whose labels have line breaks, quotes and formulas."""
    values_ = {f"{name}/{c}": 1 / 3 for name in range(labels) for c in ("norm", "lr", "cosine")}
    values_ |= {f"{label}/norm": 0.1 for label in ("a\n7,b,1", '"', "=1+1", "x\n\n")}
    sink = sinks.csv(path)
    for step in steps:
        sink(values_, step)
    return [line for step in steps for line in rows_of_log(values_, step)]


@pytest.mark.parametrize("again", [1, 37, 59, 60, 99])
def test_a_long_file_keeps_exactly_the_earlier_steps(again, tmp_path):
    path = tmp_path / "run.csv"
    wanted = [line for line in many(path, range(60)) if line["step"] < again]
    sinks.csv(path)({"all/norm": 1.0}, again)
    assert rows(path) == [*wanted, {"step": again, "label": "all", "norm": 1.0}]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_long_file_may_be_cut_off_anywhere(cut, tmp_path):
    path = tmp_path / "run.csv"
    written = many(path, range(8))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.warns(UserWarning, match="cut off"):
        whole = rows(path)
    assert whole == written[: len(whole)]
    with pytest.warns(UserWarning, match="cut off"):
        sink = sinks.csv(path)
    sink({"all/norm": 1.0}, 99)
    assert rows(path) == [*whole, {"step": 99, "label": "all", "norm": 1.0}]
