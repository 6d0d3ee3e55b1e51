"""Real data sets, where TANGENTIAL_DATA names a folder of them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ["TANGENTIAL_DATA"]) if "TANGENTIAL_DATA" in os.environ else None


def needs(name):
    """Skip a test where this data set is not there."""
    there = DATA is not None and (DATA / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"needs TANGENTIAL_DATA with {name}")
