"""Two trainings that most tests of verdicts look at."""

import pytest
from diagnosed_runs import decayed, trained
from torch.optim import SGD


@pytest.fixture(scope="module")
def momentum():
    """SGD with momentum and without decay: the slowdown of the paper."""
    return trained(lambda w: SGD(w, lr=0.1, momentum=0.9))


@pytest.fixture(scope="module")
def good():
    return trained(decayed)
