"""The examples run and train."""

import re
import sys
from pathlib import Path

import pytest
from processes import run

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "least"), [("flax_digits", 90), ("equinox_digits", 85), ("keras_digits", 88)]
)
@pytest.mark.slow
def test_example_trains(name, least):
    status, printed, errors = run(program=(sys.executable, str(EXAMPLES / f"{name}.py")))
    assert status == 0, errors
    assert float(re.fullmatch(r"test accuracy ([\d.]+)%\n", printed)[1]) > least
