"""The command in a process: full disks, closed pipes, and no laboratory."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest


def is_one_line(text):
    return text.endswith("\n") and text.count("\n") == 1 and len(text) <= 1300


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "tangential_lab", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("list", stdout=full)
    line = "Stopped: [Errno 28] No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize("command", ["list", "info"])
def test_a_closed_pipe_is_quiet(command):
    source, sink = os.pipe()
    os.close(source)
    try:
        done = run(command, stdout=sink)
    finally:
        os.close(sink)
    assert (done.returncode, done.stderr) == (1, "")


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from tangential_lab.__main__ import main
main()
"""
LABORATORY = (
    *("accelerate", "attr", "attrs", "cyclopts", "jinja2", "matplotlib", "optuna", "plotly"),
    *("psutil", "pyarrow", "rich", "scipy", "sklearn", "sqlalchemy", "torchmetrics", "torchvision"),
)


def without(missing, *arguments):
    code = WITHOUT.replace("{missing}", repr(set(missing)))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_works_with_torch_alone():
    done = without(LABORATORY, "--version")
    assert (done.returncode, done.stdout) == (0, version("tangential") + "\n"), done.stderr
    done = without(LABORATORY, "info")
    assert done.returncode == 0
    assert done.stdout.startswith("native ")


def test_what_to_install_is_one_line():
    for missing, arguments in (
        (LABORATORY, ["toy", "2d"]),
        (LABORATORY, []),
        (["optuna"], ["compare", "digits"]),
        (["rich"], ["lemmas"]),
    ):
        done = without(missing, *arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert is_one_line(done.stderr)
        assert done.stderr.startswith("Stopped: ")
        assert " is not installed: run pip install 'tangential[lab]'" in done.stderr
