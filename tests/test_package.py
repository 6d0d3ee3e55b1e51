"""What importing costs, what is exported, and what is said without the laboratory."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import tangential

ROOT = Path(__file__).parents[1]
HEAVY = [
    *(
        "cyclopts",
        "jax",
        "jinja2",
        "keras",
        "lightning",
        "matplotlib",
        "pandas",
        "pyarrow",
    ),
    *("rich", "scipy", "sklearn", "tensorboard", "transformers"),
]


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:tangential", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_import_loads_torch_and_nothing_heavier():
    code = f"""
import sys, torch
before = set(sys.modules)
import tangential, tangential_lab.theory.lemmas, tangential_lab.theory.toys
[getattr(tangential, name) for name in tangential.__all__]
new = {{m.split('.')[0] for m in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(sorted(new), [m for m in {HEAVY} if m in sys.modules and m not in before])
"""
    assert python(code).stdout == "['tangential', 'tangential_lab'] []\n"


@pytest.mark.slow
def test_names_are_imported_when_they_are_used():
    code = """
import sys, tangential
print(set(tangential.__all__) < set(dir(tangential)), "torch" in sys.modules, end=" ")
tangential.maths, tangential.AdamP
print("torch" in sys.modules, hasattr(tangential, "AdamQ"))
"""
    assert python(code).stdout == "True False True False\n"


def test_maths_needs_no_library_at_all():
    path = tangential.maths.__file__
    code = f"""
import sys, importlib.util
spec = importlib.util.spec_from_file_location("maths", {path!r})
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print([m for m in ("torch", "numpy", "jax") if m in sys.modules])
"""
    assert python(code).stdout == "[]\n"


def test_exports():
    functions = ["audit", "param_groups", "project"]
    assert sorted(tangential.__all__) == ["AdamP", "Monitor", "SGDP", *functions]
    for name in ("AdamP", "SGDP"):
        assert issubclass(getattr(tangential, name), torch.optim.Optimizer)
    for name in tangential.__all__:
        assert ">>>" in getattr(tangential, name).__doc__


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        (None, "pip install 'tangential[lab]'"),
        ({"url": "file:///a%20clone", "dir_info": {}}, "pip install '/a clone[lab]'"),
        (
            {"url": "file:///clone", "dir_info": {"editable": True}},
            "pip install --editable '/clone[lab]'",
        ),
        ({"url": "file:///x.whl", "archive_info": {}}, "pip install 'tangential[lab]'"),
    ],
)
def test_command_says_what_is_missing_without_the_laboratory(source, advice):
    hidden = f"""
import sys
from importlib.metadata import PathDistribution
sys.modules["cyclopts"] = None
PathDistribution.read_text = lambda self, name: {source and json.dumps(source)!r}
from tangential_lab.__main__ import main
main()
"""
    result = python(hidden)
    assert result.returncode == 1
    assert advice in result.stderr
    assert "Traceback" not in result.stderr


def test_there_is_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\n## {project['version']} (" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_readme_in_the_metadata_has_no_relative_links():
    """By the substitutions that the build makes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    text = (ROOT / "README.md").read_text("utf-8")
    for change in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"][
        "substitutions"
    ]:
        text = re.sub(change["pattern"], change["replacement"], text)
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    assert all(project["project"]["urls"]["Repository"] in x for x in links if "/blob/" in x)
