"""What `tangential audit` prints and writes."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from audit_command import assert_one_line, run_audit, written


@pytest.fixture
def file(tmp_path):
    return written(tmp_path)


def audited(capsys, *arguments):
    """What the command prints, on one line."""
    status, out, _ = run_audit(capsys, *arguments)
    assert status == 0
    return " ".join(out.split())


def test_a_factory_that_returns_a_model(capsys, file, tmp_path):
    outputs = ("--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    options = ("--input-size", "3,8,8", "--verify", "--all", *outputs)
    text = audited(capsys, f"{file}:conv", *options)
    assert "90.0 % of the weights are scale-invariant by row, 3.3 % have no effect" in text
    assert "Rescaling confirms 4 of 4 verdicts." in text
    assert "0.bias: no effect on the loss: what comes after this bias subtracts it again" in text
    assert "6x3x3x3" in text
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 5
    assert json.loads((tmp_path / "a.json").read_text())["batches"] == 3


def test_a_factory_that_returns_a_model_and_batches(capsys, file):
    text = audited(capsys, f"{file}:with_batches")
    assert "training mode, 2 batches" in text
    assert "66.7 % as a whole" in text


@pytest.mark.slow
def test_a_resnet_of_torchvision(capsys):
    pytest.importorskip("torchvision")
    size = ("--input-size", "3,64,64", "--batches", 2)
    text = audited(capsys, "torchvision:resnet18", *size)
    convolutions, elements = 11_166_912, 11_689_512
    assert f"{100 * convolutions / elements:.1f} % of the weights are scale-inv" in text
    assert '(the paper states "more than 90 %" for ResNet)' in text
    assert "projects these wrongly" not in text


@pytest.mark.slow
def test_a_transformer_of_timm(capsys):
    pytest.importorskip("timm")
    size = ("--input-size", "3,32,32", "--batches", 2)
    text = audited(capsys, "timm:test_vit", *size)
    assert "0.0 % of the weights are scale-invariant by row" in text


def test_a_model_that_fails_is_one_line_with_advice(capsys, file):
    result = run_audit(capsys, f"{file}:conv", "--input-size", "5,8,8")
    assert_one_line(*result, "to have 3 channels, but got 5 channels instead")
    assert "If the input is wrong, use --input-size" in result[2]


def test_weight_names_are_neither_formulas_nor_markup(capsys, file, tmp_path):
    status, out, _ = run_audit(capsys, f"{file}:names", "--all", "--csv", tmp_path / "a.csv")
    assert status == 0
    assert "[/x].weight" in out
    with (tmp_path / "a.csv").open() as lines:
        names = [line["name"] for line in csv.DictReader(lines)]
    assert names[::2] == ["'=1+1.weight", "[/x].weight", "'@a.weight"]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("options", [(), ("--all", "--verify")])
def test_no_word_or_number_is_broken_between_lines(capsys, file, monkeypatch, width, options):
    monkeypatch.chdir(file.parent)
    text = {}
    for columns in (width, 1000):
        monkeypatch.setenv("COLUMNS", str(columns))
        status, text[columns], _ = run_audit(capsys, "models.py:model", "--input-size", 4, *options)
        assert status == 0
    words = {columns: set(re.findall(r"[\w.()/|=√-]+", text[columns])) for columns in text}
    assert words[width] <= words[1000]
    assert words[1000] - words[width] <= {"flicker"}  # a heading that is left out where it is 0
    assert max(map(len, text[width].splitlines())) <= width


def test_a_full_disk_for_the_csv_is_one_line(capsys, file):
    status, out, err = run_audit(capsys, f"{file}:good", "--csv", "/dev/full")
    assert "as a whole" in out
    assert_one_line(status, "", err, "No space left on device")


@pytest.mark.slow
def test_a_full_disk_for_the_output_is_one_line(file):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tangential_lab", "audit", f"{file}:good"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert_one_line(done.returncode, "", done.stderr, "No space left on device")
