"""Weights that lie on several devices."""

import os
import sys
from pathlib import Path

import pytest
from processes import run
from sharded_steps import EXPLICIT, OPTIMIZERS

HERE = Path(__file__).parent
EIGHT = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compilation takes most of the time
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
}


@pytest.mark.slow
def test_sharded_is_unsharded():
    script = HERE / "sharded_steps.py"
    status, printed, errors = run(program=(sys.executable, str(script)), env=EIGHT)
    assert status == 0, errors
    lines = [line.split() for line in printed.splitlines()]
    assert {name for name, *_ in lines} == OPTIMIZERS.keys()
    assert len(lines) == 2 * len(OPTIMIZERS) + 2 * len(EXPLICIT)
    for *case, difference in lines:
        assert float(difference) < 1e-12, case
