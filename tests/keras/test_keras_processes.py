"""Keras fixes its backend when it is imported, so other backends need separate processes."""

import re
import sys
from pathlib import Path

import pytest
from processes import run

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SAME = [str(HERE / f"test_keras_{name}.py") for name in ("steps", "training")]

COMPILED = ("matched-", "excluded", "accumulated", "fit_takes", "loaded")


def python(code, backend):
    return run(program=(sys.executable, "-c", code), env={"KERAS_BACKEND": backend})


def test_the_same_tests_pass_on_jax():
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", " or ".join(COMPILED))
    program = (sys.executable, "-m", "pytest", *options, *SAME)
    environment = {"KERAS_BACKEND": "jax", "PYTEST_ADDOPTS": ""}
    status, printed, errors = run(program=program, env=environment)
    assert status == 0, printed + errors
    assert re.match(r"8 passed, \d+ deselected in ", printed.splitlines()[-1])


def test_on_jax_no_torch_is_needed():
    code = """
import sys
class NoTorch:
    def find_spec(name, *_):
        if name == "torch":
            raise ImportError("torch is not installed")
sys.meta_path.insert(0, NoTorch)
import keras
from tangential.keras import AdamP
kernel = keras.Variable([[3.0], [4.0]])
AdamP(0.1).apply([keras.ops.array([[4.0], [-3.0]])], [kernel])
print(keras.ops.convert_to_numpy(kernel).round(3).tolist())
"""
    status, printed, errors = python(code, "jax")
    assert status == 0, errors
    assert [round(x, 3) for [x] in eval(printed)] == [2.888, 4.084]


def test_another_backend_is_refused():
    status, _, errors = python("import tangential.keras", "numpy")
    assert status == 1
    assert "tangential.keras needs Keras's torch or jax backend, got 'numpy'" in errors
    assert "set the environment variable KERAS_BACKEND" in errors
