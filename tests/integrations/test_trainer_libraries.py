"""Neither trainer's library is loaded, or needed, before its monitor is imported."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_neither_library_is_loaded_with_the_package():
    code = """
import sys, tangential.integrations
print([name for name in ("lightning", "pytorch_lightning", "transformers") if name in sys.modules])
"""
    assert python(code).stdout == "[]\n"


def test_a_missing_library_is_named_with_how_to_install_it():
    code = """
import importlib, sys
sys.modules.update(lightning=None, pytorch_lightning=None, transformers=None)
for name in ("lightning", "transformers"):
    try:
        importlib.import_module(f"tangential.integrations.{name}")
    except ModuleNotFoundError as error:
        print(error)
"""
    assert python(code).stdout.splitlines() == [
        "LightningMonitor needs Lightning: pip install lightning",
        "TransformersMonitor needs transformers: pip install 'transformers[torch]'",
    ]
