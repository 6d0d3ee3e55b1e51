"""Tables: every number in its own column, and no cell that a spreadsheet runs."""

import csv
import json
import math

import made_study as made
import pyarrow.parquet as parquet
import pytest

from tangential_lab.reports import tables, write_report
from tangential_lab.studies import PlannedOptimizer


def read(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def cell(value):
    """What the CSV has for a value."""
    if isinstance(value, dict):
        return json.dumps(value)
    return {True: "true", False: "false", None: ""}.get(value, value)


def same(text, value):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(text) == value or (math.isnan(float(text)) and math.isnan(value))
    return text == cell(value)


def identity(spec):
    """The cells that identify a trial."""
    first = {"task": "digits", "options": {"preset": "mini"}, "optimizer": spec.optimizer}
    return {**first, "phase": spec.phase, "seed": spec.seed, **spec.values}


@pytest.mark.slow
def test_every_cell_has_the_value_of_its_record(study, tmp_path):
    """Each column has one source, and each number of a record one column."""
    write_report(study, tmp_path)
    trials = read(tmp_path / "trials.csv")
    numbers = ("score", "loss", "diverged", "steps", "norm", "effective_step", "memory_share",
               "step_s", "optimizer_s")  # fmt: skip
    for (spec, record), line in zip(study.records.items(), trials, strict=True):
        expected = {
            **identity(spec),
            **{name: record[name] for name in numbers},
            **{f"metric_{name}": value for name, value in record["metrics"].items()},
            **{f"trial_{name}_s": value for name, value in record["seconds"].items()},
            **record["provenance"],
        }
        assert line.keys() == expected.keys()
        assert all(same(line[name], value) for name, value in expected.items())
    for table, part in (("curves", "curves"), ("scores", "scores")):
        lines = iter(read(tmp_path / f"{table}.csv"))
        for spec, record in study.records.items():
            for i in range(len(record[part]["step"])):
                line = next(lines)
                values = {"lr_now" if k == "lr" else k: v[i] for k, v in record[part].items()}
                expected = identity(spec) | values
                assert line.keys() == expected.keys()
                assert all(same(line[name], value) for name, value in expected.items())
        assert next(lines, None) is None


@pytest.mark.slow
def test_a_report_writes_page_and_tables(study, tmp_path):
    paths = write_report(study, tmp_path)
    assert paths[0] == tmp_path / "report.html"
    assert paths[0].stat().st_size < 6e6
    assert all(path.stat().st_size for path in paths)
    trials = read(tmp_path / "trials.csv")
    assert len(trials) == len(study.records) == len(study.records)
    (first,) = [t for t in trials if t["optimizer"] == "sgdp" and t["seed"] == "1000"
                and t["phase"] == "test"]  # fmt: skip
    spec = next(s for s in study.records if s[:3] == ("sgdp", "test", 1000))
    assert float(first["score"]) == study.records[spec]["score"]
    assert float(first["lr"]) == spec.values["lr"]
    assert json.loads(first["seeds"]) == {"model": 1000, "data": 1000}
    curves = parquet.read_table(tmp_path / "curves.parquet")
    assert curves.num_rows == 60 * len(study.records)
    layers = parquet.read_table(tmp_path / "layers.parquet")
    assert layers.num_rows == 60 * len(made.LAYERS) * 2 * 5 * len(study.plan.optimizers)


def test_settings_with_names_of_other_columns_have_columns_of_their_own(tmp_path):
    taken = ("steps", "data", "seed", "trial_step_s", "metric_accuracy")
    space = {"lr": (1e-3, 1.0), **dict.fromkeys(taken, (1.0, 9.0))}
    own = PlannedOptimizer("m:f", "mine", "sgd", "#332288", space, {"lr": 0.1, "steps": 3.0})
    plan = made.plan({"sgd": made.OPTIMIZERS["sgd"], "own": own}, trials=3, undecayed=False)
    tables.write(plan, made.finished(plan), tmp_path)
    table = parquet.read_table(tmp_path / "trials.parquet").to_pylist()
    for name in taken:
        assert {line[f"space_{name}"] for line in table if line["optimizer"] == "sgd"} == {None}
        mine = [line[f"space_{name}"] for line in table if line["optimizer"] == "own"]
        assert all(1 <= value <= 9 for value in mine)
    assert {line["steps"] for line in table} == {600}


def test_texts_of_a_study_are_not_read_as_formulas(tmp_path):
    """Names of optimizers, tasks and settings are the user's, and versions are a machine's."""
    evil = {"=HYPERLINK(1)": made.OPTIMIZERS["sgd"], "@sum": made.OPTIMIZERS["sgdp"]}
    plan = made.plan(evil, trials=2, seeds=2, undecayed=False, task="-2+3")
    records = made.finished(plan)
    for record in records.values():
        record["provenance"] |= {"machine": "+1", "command": None, "=key": "@value"}
        record["loss"] = -1.5
    tables.write(plan, records, tmp_path)
    rows = read(tmp_path / "trials.csv")
    assert {row["optimizer"] for row in rows} == {"'=HYPERLINK(1)", "'@sum"}
    assert {row["task"] for row in rows} == {"'-2+3"}
    assert {(row["machine"], row["command"]) for row in rows} == {("'+1", "")}
    assert {row["'=key"] for row in rows} == {"'@value"}
    assert {row["loss"] for row in rows} == {"-1.5"}  # numbers stay numbers
    curves = read(tmp_path / "curves.csv")
    assert {row["optimizer"] for row in curves} == {"'=HYPERLINK(1)", "'@sum"}
    assert any(row["growth_decay"].startswith("-") for row in curves)
    kept = parquet.read_table(tmp_path / "trials.parquet")  # which no spreadsheet runs
    assert set(kept["optimizer"].to_pylist()) == set(evil)
    tables.write_rows(
        [{"study": "=1", "minus": None}, {"study": "b", "minus": "@x"}], tmp_path / "s"
    )
    assert read(tmp_path / "s.csv") == [
        {"study": "'=1", "minus": ""},
        {"study": "b", "minus": "'@x"},
    ]
