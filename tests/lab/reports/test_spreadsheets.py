"""CSV files that a spreadsheet may open: no cell is a formula, and no number is touched."""

import csv

import made_study as made
import pyarrow.parquet
import pytest

from tangential.names import literal
from tangential_lab.reports import tables


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_what_begins_as_a_formula_gets_a_quote(first):
    evil = f"{first}cmd|'/c calc'!A1"
    assert literal(evil) == f"'{evil}"
    for text in ("", "sgd", f"a{first}b", "'=1", "1e-3"):
        assert literal(text) == text


def test_texts_of_a_study(tmp_path):
    """Names of optimizers, tasks and settings are the user's, and versions are a machine's."""
    evil = {"=HYPERLINK(1)": made.OPTIMIZERS["sgd"], "@sum": made.OPTIMIZERS["sgdp"]}
    plan = made.plan(evil, trials=2, seeds=2, undecayed=False, task="-2+3")
    records = made.finished(plan)
    for record in records.values():
        record["provenance"] |= {"machine": "+1", "command": None, "=key": "@value"}
        record["loss"] = -1.5
    tables.write(plan, records, tmp_path)
    rows = rows_of(tmp_path / "trials.csv")
    assert {row["optimizer"] for row in rows} == {"'=HYPERLINK(1)", "'@sum"}
    assert {row["task"] for row in rows} == {"'-2+3"}
    assert {(row["machine"], row["command"]) for row in rows} == {("'+1", "")}
    assert {row["'=key"] for row in rows} == {"'@value"}
    assert {row["loss"] for row in rows} == {"-1.5"}  # numbers stay numbers
    curves = rows_of(tmp_path / "curves.csv")
    assert {row["optimizer"] for row in curves} == {"'=HYPERLINK(1)", "'@sum"}
    assert any(row["growth_decay"].startswith("-") for row in curves)
    kept = pyarrow.parquet.read_table(tmp_path / "trials.parquet")  # which no spreadsheet runs
    assert set(kept["optimizer"].to_pylist()) == set(evil)
    tables.write_rows(
        [{"study": "=1", "minus": None}, {"study": "b", "minus": "@x"}], tmp_path / "s"
    )
    assert rows_of(tmp_path / "s.csv") == [
        {"study": "'=1", "minus": ""},
        {"study": "b", "minus": "'@x"},
    ]
