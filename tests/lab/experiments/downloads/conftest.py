import pytest
from file_server import FileServer


@pytest.fixture
def server():
    with FileServer() as running:
        yield running


@pytest.fixture
def shown():
    """The calls of `on_progress`."""
    return []


@pytest.fixture
def on_progress(shown):
    return lambda *call: shown.append(call)
