"""The command in a process: full disks, closed pipes, Ctrl-C, and missing packages."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
from processes import is_one_line, run, start

from tangential_lab.errors import with_lab

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        status, _, err = run("list", stdout=full)
    assert (status, err) == (1, "Stopped: [Errno 28] No space left on device.\n")


@pytest.mark.parametrize("command", ["list", "info"])
def test_a_closed_pipe_is_quiet(command):
    source, sink = os.pipe()
    os.close(source)
    try:
        status, _, err = run(command, stdout=sink)
    finally:
        os.close(sink)
    assert (status, err) == (1, "")


@pytest.mark.parametrize("module", ["torch.version", "torch._C", "torch.nn", "rich.console"])
def test_ctrl_c_while_modules_are_imported_is_one_line(module):
    """Python names every module on standard error once it is imported."""
    program = (sys.executable, "-X", "importtime", "-m", "tangential_lab")
    with start("lemmas", program=program, stdout=subprocess.DEVNULL) as process:
        while not process.stderr.readline().endswith(f" {module}\n"):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        lines = process.stderr.readlines()
    assert [line for line in lines if not line.startswith("import time:")] == ["Stopped.\n"]
    assert process.returncode == 130


def test_ctrl_c_while_a_command_works_is_one_line():
    with start("lemmas", program=(sys.executable, "-c", SLOW_LEMMAS)) as process:
        assert process.stdout.readline() == "taking steps\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "Stopped.\n"
    assert process.returncode == 130


SLOW_LEMMAS = """
import time
from tangential_lab.__main__ import main
from tangential_lab.cli import lemmas
lemmas.all_lemmas = lambda: (print("taking steps"), time.sleep(100))
main()
"""
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
LAB_EXTRA = (
    *("accelerate", "attr", "attrs", "cyclopts", "jinja2", "matplotlib", "optuna"),
    *("psutil", "pyarrow", "rich", "scipy", "sklearn", "sqlalchemy", "torchmetrics", "torchvision"),
)


def run_without(missing, *arguments):
    code = WITHOUT.replace("{missing}", repr(set(missing)))
    return run(*arguments, program=(sys.executable, "-c", code))


def test_the_version_and_the_backends_need_only_torch():
    status, out, err = run_without(LAB_EXTRA, "--version")
    assert (status, out, err) == (0, version("tangential") + "\n", "")
    status, out, _ = run_without(LAB_EXTRA, "info")
    assert status == 0
    assert out.startswith("native ")


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        (LAB_EXTRA, ["toy", "2d"]),
        (LAB_EXTRA, []),
        (["optuna"], ["compare", "digits"]),
        (["rich"], ["lemmas"]),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(missing, arguments):
    status, out, err = run_without(missing, *arguments)
    assert (status, out) == (1, "")
    assert is_one_line(err)
    assert err.startswith("Stopped: ")
    assert f" is not installed: run pip install {with_lab()}" in err
