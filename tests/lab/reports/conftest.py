import pytest

from tangential_lab.reports import page


@pytest.fixture(scope="module")
def url(study, tmp_path_factory):
    """The page of a finished study."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(study), encoding="utf-8")
    return path.as_uri()
