"""The fingerprint of the code that trials use changes only with what the code does."""

import ast
import shutil

import pytest

from tangential_lab.studies import provenance

CODE = '''
"""Describes the module."""
from tangential_lab.training.records import Spec

RATE = 0.1


class Net:
    """Describes the class."""

    def forward(self, x):
        """Describes the method."""
        if x > 0:
            x = x + 1
        return [x, "text"]  # why
'''
SAME = [
    ("Describes the module.", "Says more."),
    ('"""Describes the method."""', ""),
    ("# why", "# another reason"),
    ('[x, "text"]', "[\n            x,\n            'text',\n        ]"),
    ("RATE = 0.1", 'RATE = 0.1\n"""Describes the rate."""'),
]
OTHER = [
    ("0.1", "0.2"),
    ("0.1", "None"),
    ("text", "other"),
    ("forward", "backward"),
    ("        return", "            return"),
    ("import Spec", "import Phase"),
]


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """The fingerprint of a task with this code, and of the training modules that it imports."""
    monkeypatch.setattr(provenance, "SOURCES", tmp_path)
    training, experiments = (tmp_path / "tangential_lab" / n for n in ("training", "experiments"))
    for folder in (training, experiments):
        folder.mkdir(parents=True)

    def make(code, records="Spec = Phase = None"):
        (experiments / "mine.py").write_text(code)
        (training / "records.py").write_text(records)
        (training / "trial.py").write_text("import torch\n")
        return provenance.source.__wrapped__("mine")

    return make


@pytest.mark.parametrize(("text", "edited"), SAME)
def test_docstrings_comments_and_formatting_do_not_count(text, edited, fingerprint):
    code = CODE.replace(text, edited)
    assert code != CODE
    assert fingerprint(code) == fingerprint(CODE)


@pytest.mark.parametrize(("text", "edited"), OTHER)
def test_what_the_code_does_counts(text, edited, fingerprint):
    code = CODE.replace(text, edited)
    assert ast.dump(ast.parse(code)) != ast.dump(ast.parse(CODE))
    assert fingerprint(code) != fingerprint(CODE)


def test_imported_modules_count(fingerprint):
    assert fingerprint(CODE, "Spec = 1") != fingerprint(CODE, "Spec = 2")
    assert fingerprint(CODE, "Spec = 1  # one") == fingerprint(CODE, "Spec = 1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "counts"),
    [
        *(("training/optimizers", True), ("training/trial", True), ("__main__", False)),
        ("experiments/imagenet/__init__", False),
    ],
)
def test_a_task_depends_on_its_own_code_and_on_how_it_is_trained(
    module, counts, tmp_path, monkeypatch
):
    before = provenance.source.__wrapped__("digits")
    for package in ("tangential", "tangential_lab"):
        shutil.copytree(provenance.SOURCES / package, tmp_path / package)
    monkeypatch.setattr(provenance, "SOURCES", tmp_path)
    assert provenance.source.__wrapped__("digits") == before
    with (tmp_path / "tangential_lab" / f"{module}.py").open("a") as file:
        file.write("CHANGED = True\n")
    assert (provenance.source.__wrapped__("digits") != before) is counts
