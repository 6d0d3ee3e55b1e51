"""`tangential audit` with odd models, files and options: one line on standard error."""

import csv
import os
import re
import subprocess
import sys

import pytest

from tangential_lab.__main__ import main

FILE = """
import sys, threading
from dataclasses import dataclass
import torch
from torch import nn

class Raises(nn.Linear):
    def __init__(self, error):
        super().__init__(4, 3)
        self.error = error
    def forward(self, x):
        raise self.error

class Refuses(nn.Linear):
    def __deepcopy__(self, memo):
        raise ValueError("not to be copied")

class Asserts(nn.Linear):
    def forward(self, x):
        assert x.dtype == torch.float32, "float32 only"
        return super().forward(x)

class Exits(nn.Linear):
    def forward(self, x):
        sys.exit(0)

def inputs():
    return [torch.randn(5, 4) for _ in range(3)]

def good(): return nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3)), inputs()
def model(): return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
def raises(): raise RuntimeError("no weights here")
def raises_badly(): raise KeyError("x" * 3_000_000)
def divides(): return 1 / 0
def exits(): sys.exit(0)
def wants(width, depth=2): return nn.Linear(width, depth)
def number(): return 3
def none(): pass
def kind(): return nn.Linear
def three(): return model(), inputs(), 3
def numbers(): return model(), 5
def no_batches(): return model(), []
def words(): return model(), "words"
def one_batch(): return model(), torch.randn(5, 4)
def lambdas(): return model(), [lambda model: 1 / 0]
def lines(): return Raises(ValueError("one\\ntwo\\x1b[31m\\n" * 100)), inputs()
def long(): return Raises(RuntimeError("x" * 3_000_000)), inputs()
def looks_up(): return Raises(KeyError(3)), inputs()
def silent(): return Raises(AssertionError()), inputs()
def memory(): return Raises(MemoryError()), inputs()
def exits_inside(): return Exits(4, 3), inputs()
def refuses(): return Refuses(4, 3), inputs()
def weightless(): return nn.ReLU(), inputs()
def meta(): return nn.Linear(4, 3, device="meta"), inputs()
def lazy(): return nn.LazyLinear(3), inputs()
def returns_none(): return type("M", (nn.Linear,), {"forward": lambda m, x: None})(4, 3), inputs()
def names():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("=1+1", nn.Linear(4, 3))
            self.add_module("[/x]", nn.Linear(3, 3))
            self.add_module("@a", nn.Linear(3, 3))
        def forward(self, x):
            for module in self.children():
                x = module(x)
            return x
    return Net(), inputs()
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "models.py"
    path.write_text(FILE)
    return path


def call(capsys, *arguments):
    """Exit status, standard output and errors."""
    status = 0
    try:
        main(["audit", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code or 0
    return status, *capsys.readouterr()


def assert_one_line(status, out, err, words):
    assert status not in (0, None)
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert "bug in" not in err
    assert "\x1b" not in err
    assert len(err) < 2500
    assert words in err


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("raises", "raises in {file} fails: RuntimeError: no weights here"),
        ("raises_badly", "characters left out"),
        ("divides", "ZeroDivisionError: division by zero"),
        ("exits", "SystemExit: 0"),
        ("wants", "must be a function without arguments, but is wants(width, depth=2)"),
        ("number", "number returned a int"),
        ("none", "none returned a NoneType"),
        ("kind", "kind returned a type"),
        ("three", "three returned a tuple"),
        ("numbers", "batches is a int"),
        ("no_batches", "batches is empty"),
        ("words", "batches is a str"),
        ("one_batch", "batches is a Tensor"),
        ("lambdas", "ZeroDivisionError: division by zero"),
        ("lines", "ValueError: one two\\x1b[31m one two"),
        ("long", "characters left out"),
        ("looks_up", "KeyError: 3"),
        ("silent", "AssertionError"),
        ("memory", "MemoryError"),
        ("exits_inside", "SystemExit: 0"),
        ("refuses", "copy.deepcopy fails: not to be copied"),
        ("weightless", "the model has no weights"),
        ("meta", "weight is on the meta device"),
        ("lazy", "weight is not initialised"),
        ("returns_none", "no floating-point tensor, but NoneType"),
        ("inputs", "inputs returned a list"),
        ("Raises", "must be a function without arguments, but is Raises(error)"),
        ("torch", "has no function 'torch'"),
        ("", "has no function ''"),
    ],
)
def test_odd_factories(capsys, file, factory, words):
    assert_one_line(*call(capsys, f"{file}:{factory}"), words.format(file=file))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"def model(:", "SyntaxError"),
        (b"def model():\n\x00", "null bytes"),
        (b"\xff\xfe\xfa", "SyntaxError"),
        (b"raise RuntimeError('at import')", "at import"),
        (b"import sys; sys.exit(0)", "SystemExit"),
        (b"import no_such_package", "no_such_package"),
        (b"1/0", "division by zero"),
        (b"raise KeyError('x' * 3_000_000)", "left out"),
        (b"", "has no function 'model'"),
        (b"model = 3", "has no function 'model'"),
    ],
)
def test_odd_files(capsys, tmp_path, content, words):
    (tmp_path / "odd.py").write_bytes(content)
    assert_one_line(*call(capsys, f"{tmp_path / 'odd.py'}:model"), words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "source is ''"),
        (":", "source is ':'"),
        ("os:system", "source is 'os:system'"),
        (".py:model", "there is no file '.py'"),
        ("{folder}:model", "allowed are torchvision:NAME"),
        ("{folder}/a\0b.py:model", "there is no file"),
        ("torchvision:", "torchvision has no model ''"),
        ("torchvision:resnet18:", "source is"),
        ("torchvision:raft_small", "missing 1 required positional argument"),
        ("torchvision:fasterrcnn_mobilenet_v3_large_fpn", "targets should not be none"),
        ("timm:resnet18.none", "Invalid pretrained tag (none)"),
    ],
)
def test_odd_sources(capsys, tmp_path, source, words):
    if source.startswith("t"):
        pytest.importorskip(source.partition(":")[0])
    size = ("--input-size", "3,8,8", "--batches", 1)
    assert_one_line(*call(capsys, source.format(folder=tmp_path), *size), words)


HUGE = 10**30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", HUGE), "seed"),
        (("--seed", -1), "seed"),
        (("--seed", "x"), "seed"),
        (("--batches", HUGE), "smaller --batches, --batch-size or --input-size"),
        (("--batches", 0), "batches"),
        (("--batch-size", HUGE), "10^12 GB"),
        (("--batch-size", -3), "batch-size"),
        (("--input-size", "1000000,1000000"), "2 batches of 2x1000000x1000000 numbers need"),
        (("--input-size", f"{HUGE},{HUGE}"), "10^12 GB"),
        (("--input-size", ",".join(["1"] * 100)), "RuntimeError"),
        (("--input-size", "9" * 5000), "digits"),
        (("--input-size", "0"), "input_size is '0'"),
        (("--input-size", "nan"), "input_size is 'nan'"),
        (("--input-size", ""), "input_size is ''"),
        (("--input-size", "5,3"), "Give --input-size"),
        (("--csv", "{folder}"), "Is a directory"),
        (("--csv", "{folder}/none/a.csv"), "No such file or directory"),
        (("--csv", "/proc/version"), "Invalid argument"),
        (("--csv", "/proc/none.csv"), "No such file or directory"),
        (("--json", "{folder}/none/a.json"), "No such file or directory"),
        (("--json", "a\0b"), "null byte"),
        (("--csv", "{folder}/a", "--json", "{folder}/a"), "must be two files"),
        (("--nothing", 3), "--nothing"),
    ],
)
def test_odd_options(capsys, file, options, words):
    options = [str(option).format(folder=file.parent) for option in options]
    arguments = ["--batches", 2] if "--batches" not in options else []
    assert_one_line(*call(capsys, f"{file}:model", *options, *arguments), words)


def test_outputs_are_checked_before_the_audit(capsys, file, tmp_path, monkeypatch):
    monkeypatch.setattr("tangential_lab.cli.audit.audit", lambda *_, **__: pytest.fail("audited"))
    (tmp_path / "kept.json").write_text("kept")
    outputs = ("--json", tmp_path / "kept.json", "--csv", tmp_path / "none" / "a.csv")
    assert_one_line(*call(capsys, f"{file}:good", *outputs), "No such file or directory")
    assert (tmp_path / "kept.json").read_text() == "kept"


def test_names_are_no_formulas_and_no_markup(capsys, file, tmp_path):
    status, out, _ = call(capsys, f"{file}:names", "--all", "--csv", tmp_path / "a.csv")
    assert status == 0
    assert "[/x].weight" in out
    with (tmp_path / "a.csv").open() as lines:
        names = [line["name"] for line in csv.DictReader(lines)]
    assert names[::2] == ["'=1+1.weight", "[/x].weight", "'@a.weight"]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("options", [(), ("--all", "--verify")])
def test_no_word_or_number_is_broken(capsys, file, monkeypatch, width, options):
    monkeypatch.chdir(file.parent)
    text = {}
    for columns in (width, 1000):
        monkeypatch.setenv("COLUMNS", str(columns))
        status, text[columns], _ = call(capsys, "models.py:model", "--input-size", 4, *options)
        assert status == 0
    words = {columns: set(re.findall(r"[\w.()/|=√-]+", text[columns])) for columns in text}
    assert words[width] <= words[1000]
    assert words[1000] - words[width] <= {"flicker"}  # a heading that is left out where it is 0
    assert max(map(len, text[width].splitlines())) <= width


def test_a_full_disk_for_the_csv(capsys, file):
    status, out, err = call(capsys, f"{file}:good", "--csv", "/dev/full")
    assert "as a whole" in out
    assert_one_line(status, "", err, "No space left on device")


def test_a_full_disk_for_the_output(file):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tangential_lab", "audit", f"{file}:good"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert_one_line(done.returncode, "", done.stderr, "No space left on device")


def test_two_spellings_of_one_file_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["audit", "x.py:f", "--csv", "./x", "--json", str(tmp_path / "x")])
    assert "but must be two files" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_options_of_noise_are_refused_for_a_factory_with_batches(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(FILE)
    for option in ("--batches=1", "--batch-size=2", "--input-size=4"):
        with pytest.raises(SystemExit):
            main(["audit", "m.py:good", option])
        name = option.partition("=")[0]
        said = f"Stopped: m.py:good returns its own batches: leave out {name}\n"
        assert capsys.readouterr().err == said
