import made_study as made
import pytest
import torch

from tangential_lab import experiments
from tangential_lab.reports import report


@pytest.fixture(scope="session")
def study():
    """The report of a finished study."""
    plan = made.plan()
    return report(plan, made.finished(plan))


@pytest.fixture(scope="module")
def one_thread():
    """Torch computes with one thread, as a worker does by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    """The digits task."""
    return experiments.make("digits", None, {})
