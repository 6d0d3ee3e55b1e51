from types import SimpleNamespace

import made_study as made
import pytest
import torch
from processes import FORKED, ForkedWorker

from tangential_lab import experiments
from tangential_lab.reports import report
from tangential_lab.studies.workers import pool


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    """Studies in this process fork their workers: importing torch takes most of a spawned one."""
    with pytest.MonkeyPatch.context() as patch:
        context = SimpleNamespace(Pipe=FORKED.Pipe, RawValue=FORKED.RawValue, Process=ForkedWorker)
        patch.setattr(pool, "SPAWN", context)
        yield


@pytest.fixture(autouse=True)
def empty_pictures(request, monkeypatch):
    """Picture files are empty in tests of other folders than reports/: to draw one takes .5 s."""

    def draw(figure, styles, folder):
        paths = [folder / f"{figure.key}.{suffix}" for suffix in ("png", "svg")]
        for path in paths:
            path.touch()
        return paths

    if "reports" not in request.path.parts:
        monkeypatch.setattr("tangential_lab.reports.study.draw", draw)


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
