"""Tasks in a user's file: the documented example, and what users get wrong."""

import re
from pathlib import Path

import pytest
from processes import call

from tangential_lab import experiments
from tangential_lab.studies import provenance

GUIDE = (Path(__file__).parents[3] / "docs/own_task.md").read_text("utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
SMALL = ("--optimizers", "sgd", "sgdp", "--workers", 1)


@pytest.fixture
def mine(tmp_path):
    """Writes a file with changes of the example; returns the name of its task."""

    def write(*changes):
        code = EXAMPLE
        for old, new in changes:
            assert old in code
            code = code.replace(old, new)
        (tmp_path / "mine.py").write_text(code, "utf-8")
        return f"{tmp_path}/mine.py:cells"

    return write


def test_the_example_is_short_and_its_options_are_known(mine):
    assert len(EXAMPLE.splitlines()) <= 32
    name = mine()
    assert experiments.options(name)["norm"].choices == ("batch", "layer")
    task = experiments.make(name, None, {"norm": "layer"})
    assert "LayerNorm" in repr(task.model())
    assert len(task.data.checksum) == 16
    assert task.data == experiments.make(name, None, {}).data


def test_the_checksum_is_of_the_data(mine):
    before = experiments.make(mine(), None, {}).data
    changed = ("samples = ((samples", "samples[0, 0] += 1\n    samples = ((samples")
    assert experiments.make(mine(changed), None, {}).data != before


def test_the_data_folder_is_passed_if_the_function_takes_it(mine, tmp_path):
    name = mine(
        ('*, norm: Literal["batch", "layer"] = "batch"', "*, data=None"),
        (
            'normalise = nn.BatchNorm1d if norm == "batch" else nn.LayerNorm',
            "normalise = nn.Identity",
        ),
        ("nn.Identity", "nn.BatchNorm1d"),
        ('about="569', 'about=str(data) + "569'),
    )
    assert experiments.make(name, tmp_path, {}).about.startswith(str(tmp_path))
    assert not experiments.options(name)


@pytest.mark.slow
def test_a_study_of_the_example(mine, tmp_path, capsys):
    sizes = ("--trials", 2, "--seeds", 2, "--epochs", 1, "--out", tmp_path / "out")
    status, out, errors = call(capsys, "compare", mine(), *SMALL, "--sweep", *sizes)
    assert (status, errors) == (0, "")
    assert "no difference detected" in " ".join(out.split())
    page = (tmp_path / "out/cells/report.html").read_text("utf-8")
    assert "<h1>cells" in page


@pytest.mark.slow
def test_a_changed_file_does_not_continue_a_study(mine, tmp_path, capsys):
    name, sizes = mine(), ("--trials", 0, "--seeds", 1, "--epochs", 1, "--out", tmp_path / "out")
    assert call(capsys, "compare", name, *SMALL, *sizes)[0] == 0
    source = provenance.source(name)
    mine(("nn.ReLU()", "nn.GELU()"))
    provenance.source.cache_clear()
    assert provenance.source(name) != source
    status, out, _ = call(capsys, "compare", name, *SMALL, *sizes)
    assert status == 0
    assert "already finished" not in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("def cells", "def other")], r"mine.py has no function 'cells'"),
        ([("import torch\n", "import torchh\n")], r"ModuleNotFoundError.*mine.py:3\)"),
        (
            [("samples.std(0)", "samples.std(0, 1, 2)")],
            r"mine.py:cells fails: TypeError.*mine.py:1",
        ),
        ([("    return Task(", "    return dict(")], r"must return a tangential_lab.training.Task"),
        ([('"test": range', '"tests": range')], r"task's splits lack test: expected train,"),
        ([("batch_size=32", "batch_size=0")], r"task's batch_size is 0, expected 1 to 369"),
        ([("batch_size=32", "batch_size=400")], r"task's batch_size is 400, expected 1 to 369"),
        ([("epochs=10", "epochs=0")], r"task's epochs must be > 0, got 0"),
        ([("model=lambda: ", "model=")], r"task's model must be a function that returns a new"),
        (
            [("batch_size=32", 'batch_size=32, published={"sgd": {"lr": 0.1}}')],
            r"task's published needs \{\"sgd\": \{\"lr\": > 0, \"weight_decay\": >= 0\}\}",
        ),
        ([("metric=Metric", "metric=str or Metric")], "task's metric must be a Metric, got "),
    ],
)
def test_a_wrong_task_is_named(mine, changes, message):
    with pytest.raises(ValueError, match=message):
        experiments.make(mine(*changes), None, {})


def test_an_option_needs_a_type_and_a_default(mine):
    name = mine(('norm: Literal["batch", "layer"] = "batch"', "norm"))
    with pytest.raises(ValueError, match="parameter 'norm' needs a type and a default value"):
        experiments.options(name)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nowhere.py:cells", "there is no file 'nowhere.py'"),
        ("digit", "Your own task is FILE.py:FUNCTION"),
    ],
)
def test_an_unknown_task_is_one_line(task, message, capsys, tmp_path):
    status, out, errors = call(capsys, "compare", task, "--out", tmp_path)
    assert status != 0
    assert message in " ".join((out + errors).split())
    assert "Traceback" not in errors
