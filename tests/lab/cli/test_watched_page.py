"""The page of a study that runs, in a browser."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import WIDE, all_drawn, tab

from tangential_lab.cli.study import watch


class Running:
    """A study that continues, or fails."""

    def __init__(self, study):
        self.plan, self.all, self.count = study.plan, list(study.records.items()), 50
        self.error = None

    def __call__(self):
        if self.error:
            raise self.error
        return self.plan, dict(self.all[: self.count])


@pytest.fixture
def running(study, monkeypatch):
    monkeypatch.setattr(watch, "PAUSE_S", 0.1)
    study = Running(study)
    with watch.PageServer(study, 0) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        study.url = served.url
        yield study
        served.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_page_follows_the_study(chromium, running):
    with tab(chromium, running.url) as opened:
        assert opened.inner_text(".verdict").startswith("50 of 108 trials are done")
        assert opened.locator("progress").get_attribute("value") == "50"
        opened.evaluate("scrollTo(0, 700)")
        running.count = 51
        opened.wait_for_selector("progress[value='51']", timeout=30_000)
        all_drawn(opened)
        assert opened.evaluate("scrollY") == 700
        assert opened.locator(".plot .drawing").count() > 0


@pytest.mark.slow
def test_an_error_is_shown_and_the_study_continues(chromium, running):
    with tab(chromium, running.url, drawn=False) as opened:
        running.error = OSError("database <b>is locked</b>")
        alert = opened.locator(".verdict[role=alert]")
        alert.wait_for(timeout=30_000)
        assert alert.inner_text() == "OSError: database <b>is locked</b>"
        running.error, running.count = None, 108
        opened.wait_for_selector("[data-figure=norm]", timeout=30_000)
        assert opened.inner_text(".verdict").startswith("Accuracy: ")
        all_drawn(opened)


def test_a_damaged_record_is_shown_as_an_error(running):
    running.all = [(spec, {}) for spec, _ in running.all]
    assert "KeyError" in fetched(running.url)


@pytest.mark.slow
def test_the_page_says_when_the_server_has_stopped(chromium, study):
    served = watch.PageServer(Running(study), 0)
    thread = threading.Thread(target=served.serve_forever, args=(0.05,))
    thread.start()
    context = chromium.new_context(viewport=WIDE)
    opened = context.new_page()
    opened.goto(served.url)
    assert not opened.locator(".news").is_visible()
    served.shutdown()
    thread.join()
    served.server_close()
    opened.wait_for_selector(".news:not([hidden])", timeout=30_000)
    assert "`tangential watch` has stopped." in opened.inner_text(".news")
    context.close()


def fetched(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as got:
        return got.read().decode()


@pytest.mark.slow
def test_a_page_is_made_only_if_the_study_has_changed(running, monkeypatch):
    counted, real = [], watch.report
    monkeypatch.setattr(watch, "report", lambda *args: (counted.append(1), real(*args))[1])
    first = fetched(running.url)
    assert fetched(running.url) == first
    assert len(counted) == 1
    version = json.loads(fetched(f"{running.url}state"))["version"]
    assert f'data-version="{version}"' in first
    running.count += 1
    time.sleep(0.2)
    assert json.loads(fetched(f"{running.url}state"))["version"] != version
    assert len(counted) == 1  # until somebody asks for the page
    assert "51 of 108" in fetched(running.url)


def test_only_requests_from_this_machine_are_answered(running):
    assert running.url.startswith("http://127.0.0.1:")
    for path, headers, code in (
        ("", {"Host": "evil.example"}, 403),
        ("../../etc/passwd", {}, 404),
        ("trials.csv", {}, 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetched(running.url + path, **headers)
        assert refused.value.code == code
        refused.value.close()


def test_a_port_that_is_taken_is_named(running):
    port = int(running.url.rsplit(":")[-1].strip("/"))
    for wrong in (port, 70_000):
        with pytest.raises(OSError, match=f"port must be a free port .*, got {wrong}: "):
            watch.PageServer(running, wrong)


@pytest.mark.slow
def test_ctrl_c_ends_it():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # of a job
        "import made_study as made; from tangential_lab.cli.study.watch import serve;"
        "plan = made.plan(); serve(lambda: (plan, {}), 0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert "0 of 108 trials" in fetched(line.split()[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
