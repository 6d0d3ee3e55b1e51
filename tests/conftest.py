import gc
import os
import re

import pytest
import torch
from hypothesis import HealthCheck, settings

DOCTEST = re.compile(r"^ *>>> ", re.MULTILINE)
ALL_SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)

os.environ.setdefault("KERAS_BACKEND", "torch")  # tests/keras/ starts processes with another

# No deadline: machines may be slow. No random examples: failures must be reproducible.
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
    config.pluginmanager.register(Collected())  # so that it holds for src/, too


class Collected:
    """Which files are imported to look for tests: imports take much of a quick run."""

    def pytest_ignore_collect(self, collection_path, config):
        """Ignore files without tests or doctests, and those of slow tests only in quick runs."""
        if collection_path.suffix != ".py":
            return None
        text = collection_path.read_text("utf-8")
        if not collection_path.name.startswith("test_"):
            return not DOCTEST.search(text) or None
        return (config.option.markexpr == "not slow" and bool(ALL_SLOW.search(text))) or None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep what is imported and collected out of every later garbage collection."""
    gc.disable()
    result = yield
    gc.enable()
    gc.freeze()
    return result


@pytest.fixture(autouse=True)
def real_data(request):
    """Provide the data sets that a test is marked with, or skip it."""
    for mark in request.node.iter_markers("real_data"):
        from realdata import provide  # where the laboratory is installed

        provide(*mark.args)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def chromium():
    """A running browser, never two in one process: each takes its thread's event loop."""
    from browser import launched  # where Pillow is installed

    with launched() as browser:
        yield browser


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of data sets, and a separate cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
