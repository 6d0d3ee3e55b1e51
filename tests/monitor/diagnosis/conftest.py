"""Two trainings that most tests of verdicts look at."""

import pytest
from diagnosed_runs import slowed_run, sound_run


@pytest.fixture(scope="module")
def momentum():
    return slowed_run()


@pytest.fixture(scope="module")
def good():
    return sound_run()
