import made_study as made
import pytest
from browser import CHROMIUM, launched

from tangential_lab.reports import report


@pytest.fixture(scope="session")
def study():
    """The report of a finished study."""
    plan = made.plan()
    return report(plan, made.finished(plan))


@pytest.fixture(scope="module")
def chromium():
    """A running browser; skips where none is installed."""
    if not CHROMIUM:
        pytest.skip("no Chromium or Chrome is installed")
    with launched() as browser:
        yield browser
