import jax
import pytest


@pytest.fixture(autouse=True)
def float64():
    """Arrays in float64, whatever other tests have chosen."""
    with jax.enable_x64(True):
        yield
