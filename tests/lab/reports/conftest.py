import importlib
import sys
from pathlib import Path

import pytest

from tangential_lab.reports import page

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def url(study, tmp_path_factory):
    """The page of a finished study."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(study), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def results():
    """The program that writes the results pages."""
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("results")
    sys.path.remove(str(DOCS))
