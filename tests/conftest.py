import pytest
import torch
from hypothesis import HealthCheck, settings

# A slow machine is no failure, and a failure must come again when the tests are run again.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
