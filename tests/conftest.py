import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# `--doctest-modules` would import every conftest.py under the one name `conftest`.
collect_ignore_glob = ["*conftest.py"]

# A slow machine is no failure, and a failure must come again when the tests are run again.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# Workers that share the cores would wait for one another's threads, tens of times as long as alone.
if "PYTEST_XDIST_WORKER" in os.environ:
    cores, workers = os.cpu_count() or 1, int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    torch.set_num_threads(max(1, cores // workers))
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # of processes that tests start


def pytest_configure(config):
    config.addinivalue_line("markers", "real_data(name): needs this data set; see realdata.py")


@pytest.fixture(autouse=True)
def real_data(request):
    """Provide the data sets that a test is marked with, or skip it."""
    for mark in request.node.iter_markers("real_data"):
        from realdata import provide  # where the laboratory is installed

        provide(*mark.args)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of data sets, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
