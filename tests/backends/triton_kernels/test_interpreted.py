"""The tests of the kernels, in a process in which Triton interprets them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="this is that process")
def test_interpreted_kernels():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", str(Path(__file__).parent)]
    process = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout[-8000:]
