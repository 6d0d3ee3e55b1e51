"""The page in a browser: drawn, quiet, legible, and deaf to what names contain."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import made_study as made
import numpy as np
import pytest
from PIL import Image

from tangential_lab.cli.study import server as watch
from tangential_lab.names import label
from tangential_lab.reports import page, report, write_overview
from tangential_lab.studies import PlannedOptimizer
from tangential_lab.styles import on_dark

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=f"none of {', '.join(NAMES)} is installed")

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TALL = {"width": 1280, "height": 1300}  # the first plots are in view
EVIL = "<script>alert('x')</script><b>\"a\" & </script>$x_1$ %{x}"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def tab(chromium, url, *, drawn=True, early="", **options):
    """An open page, all its plots drawn, a script run before its own; it must have been quiet."""
    context = chromium.new_context(**{"viewport": WIDE, "color_scheme": "light", **options})
    opened, told, requests = context.new_page(), [], []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("dialog", lambda dialog: (told.append("dialog"), dialog.dismiss()))
    opened.on("request", lambda request: requests.append(request.url))
    context.add_init_script(early)
    opened.goto(url)
    if drawn:
        all_drawn(opened)
    try:
        yield opened
        assert told == []
        assert {r for r in requests if not r.startswith(("data:", url))} == set()
    finally:
        context.close()


def all_drawn(opened):
    opened.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)


@pytest.fixture(scope="module")
def whole():
    plan = made.plan()
    return report(plan, made.finished(plan))


@pytest.fixture(scope="module")
def url(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(whole), encoding="utf-8")
    return path.as_uri()


def shot(place):
    return Image.open(io.BytesIO(place.screenshot())).convert("RGB")


def near(picture, colour):
    """How many pixels are all but `colour`."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(np.asarray(picture, int) - wanted).max(axis=2) < 12).sum())


# ---- drawn


def test_all_figures_are_drawn_without_a_word_or_a_request(chromium, url, whole):
    panels = sum(len(figure.panels) for figure in whole.figures)
    with tab(chromium, url) as opened:
        assert opened.locator(".plot").count() == panels
        assert opened.locator(".plot .main-svg:first-child").count() == panels
        lines = opened.locator("[data-figure=norm] .scatterlayer .js-line").count()
        assert lines == 2 * len(whole.plan.optimizers)  # a band and a line each
        assert opened.locator("[data-figure=layers] .hm image").count() == len(
            whole.plan.optimizers
        )
        problems = opened.evaluate(
            "[...document.querySelectorAll('.plot')]"
            ".flatMap((p) => Plotly.validate(p.data, p.layout) ?? []).map((x) => x.msg)"
        )
        assert problems == []


def test_lines_have_the_colours_of_their_optimizers(chromium, url, whole):
    with tab(chromium, url) as opened:
        picture = shot(opened.locator("[data-figure=budget] .plot"))
        for optimizer in whole.plan.optimizers.values():
            assert near(picture, optimizer.colour) > 20, optimizer.colour


def test_the_verdict_comes_first(chromium, url, whole):
    with tab(chromium, url) as opened:
        text = opened.inner_text("body")
        assert text.index(whole.headline) < text.index("95 % interval") < text.index("ms per step")
        top = opened.locator(".verdict").bounding_box()
        assert top["y"] < 200
        assert opened.locator("table").first.bounding_box()["y"] < WIDE["height"] / 2


def test_hover_tells_names_and_values(chromium, url, whole):
    with tab(chromium, url) as opened:
        plot = opened.locator("[data-figure=norm] .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.wait_for_selector("[data-figure=norm] .hoverlayer .legend", timeout=10_000)
        told = opened.locator("[data-figure=norm] .hoverlayer").text_content()
        assert re.search(r"step \d+SGD : ", told)
        for optimizer in whole.plan.optimizers:
            assert f"{label(optimizer)} : " in told
        plot = opened.locator("[data-figure=tuning] .plot").first
        plot.scroll_into_view_if_needed()
        at = opened.locator("[data-figure=tuning] .points path").first.bounding_box()
        opened.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        opened.wait_for_selector("[data-figure=tuning] .hoverlayer .hovertext", timeout=10_000)
        told = opened.locator("[data-figure=tuning] .hoverlayer").first.text_content()
        assert " at lr " in told


def test_the_legend_hides_a_optimizer_everywhere(chromium, url, whole):
    lines = "[data-figure=norm] .scatterlayer .js-line, [data-figure=budget] .scatterlayer .js-line"
    with tab(chromium, url) as opened:
        before = opened.locator(lines).count()
        button = opened.locator(".legend button", has_text="adamw")
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert opened.locator(lines).count() == before - 3  # a band, two lines
        button.click()
        assert opened.locator(lines).count() == before


# ---- legible


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_is_cut_and_text_can_be_read(chromium, url, scheme, size):
    small = size is PHONE
    looks = {"viewport": size, "color_scheme": scheme, "has_touch": small, "is_mobile": small}
    with tab(chromium, url, **looks) as o:
        assert o.evaluate("document.documentElement.scrollWidth") == size["width"]
        paper, *inks = o.evaluate(
            """["body", ".verdict", "caption span", ".plot .xtick text"].map((s, i) =>
               getComputedStyle(document.querySelector(s))[
                 i === 0 ? "backgroundColor" : s.endsWith("text") ? "fill" : "color"])"""
        )
        assert (light(paper) < 0.1) is (scheme == "dark")
        for ink in inks:
            low, high = sorted([light(paper), light(ink)])
            assert (high + 0.05) / (low + 0.05) >= 4.5
        sizes = o.evaluate(
            """[...document.querySelectorAll(".plot")].map((p) =>
               [p.clientWidth, p.querySelector(".main-svg").getBoundingClientRect().width])"""
        )
        assert all(abs(place - drawn) <= 1 for place, drawn in sizes)


def light(css):
    """Relative luminance of a CSS colour."""
    channels = [float(x) / 255 for x in css[css.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


OVERLAPS = """() => {
  const box = (place) => place.getBoundingClientRect();
  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  const found = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const labels = [".xtitle", ".ytitle", ".xtick text", ".ytick text"]
      .flatMap((which) => [...plot.querySelectorAll(which)]);
    labels.forEach((a, i) => labels.slice(i + 1).forEach((b) => {
      if (!apart(box(a), box(b))) found.push(`${a.textContent} on ${b.textContent}`);
    }));
    for (const title of plot.querySelectorAll(".xtitle")) {
      if (box(title).bottom > box(plot).bottom) found.push(`${title.textContent} is cut`);
      for (const tick of plot.querySelectorAll(".xtick text"))
        if (box(title).top < box(tick).bottom) found.push(`${title.textContent} beside its ticks`);
    }
    for (const title of plot.querySelectorAll(".ytitle"))
      for (const tick of plot.querySelectorAll(".ytick text"))
        if (box(title).right > box(tick).left) found.push(`${title.textContent} beside its ticks`);
  }
  return found;
}"""  # noqa: E501


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_no_label_lies_on_another(chromium, url, width):
    """Titles of axes keep clear of the numbers, and numbers of one another."""
    with tab(chromium, url, viewport={"width": width, "height": 900}) as opened:
        assert opened.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_heat_map_has_one_scale_of_colours(chromium, url, size):
    with tab(chromium, url, viewport=size) as opened:
        assert opened.locator(".plot .colorbar").count() == 0
        assert opened.locator(".scale").count() == 1
        low, bar, high = opened.locator(".scale > span").all()
        assert float(low.inner_text()) < float(high.inner_text())
        boxes = [place.bounding_box() for place in (low, bar, high)]
        for left, right in pairwise(boxes):
            assert left["x"] + left["width"] <= right["x"]
        assert boxes[-1]["x"] + boxes[-1]["width"] <= size["width"]


def test_a_table_that_is_cut_says_so(chromium, url):
    with tab(chromium, url, viewport=PHONE, has_touch=True, is_mobile=True) as opened:
        table = opened.locator(".scroll").first
        hint = opened.locator(".more").first
        assert table.evaluate("(t) => t.scrollWidth > t.clientWidth")
        assert hint.is_visible()
        assert "cut" in table.get_attribute("class")
        table.evaluate("(t) => t.scrollTo(10_000, 0)")
        opened.wait_for_function("!document.querySelector('.scroll').matches('.cut')")
        name = opened.locator(".scroll tbody th").first.bounding_box()
        assert 0 <= name["x"] < 30  # the optimizer's name stays
    with tab(chromium, url) as opened:
        assert not opened.locator(".scroll.cut").count()
        assert not opened.locator(".more").first.is_visible()


def test_colours_follow_the_scheme(chromium, url, whole):
    with tab(chromium, url) as opened:
        opened.emulate_media(color_scheme="dark")
        opened.wait_for_timeout(1500)
        picture = shot(opened.locator("[data-figure=budget] .plot"))
        assert near(picture, on_dark("#842f73")) > 20
        assert near(picture, "#15181c") > 0.5 * picture.width * picture.height


def test_on_paper_it_is_light_and_as_narrow(chromium, url, tmp_path):
    with tab(chromium, url, color_scheme="dark") as opened:
        path = tmp_path / "page.pdf"
        opened.pdf(path=path, format="A4")
        assert 3 <= path.read_bytes().count(b"/Type /Page\n") <= 12
        opened.evaluate("dispatchEvent(new Event('beforeprint'))")
        widths = opened.evaluate(
            "[...document.querySelectorAll('.plot .main-svg')].map((s) => s.getAttribute('width'))"
        )
        assert set(widths) == {"330"}
        assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        opened.evaluate("dispatchEvent(new Event('afterprint'))")
        assert opened.locator("[data-figure=norm] .main-svg").first.get_attribute("width") != "330"


def test_a_screen_reader_finds_its_way(chromium, url):
    with tab(chromium, url) as opened:
        wrong = opened.evaluate(
            """[
              ...[...document.querySelectorAll("table")].filter((t) =>
                !t.caption?.innerText || [...t.querySelectorAll("th")].some((th) => !th.scope)),
              ...[...document.querySelectorAll(".plot")].filter((p) =>
                p.getAttribute("role") !== "img" || p.ariaLabel.length < 20),
              ...[...document.querySelectorAll(".scroll")].filter((s) => !s.ariaLabel),
            ].length"""
        )
        assert wrong == 0
        assert opened.locator("h1").count() == 1
        said = opened.locator("[data-figure=norm] .plot").get_attribute("aria-label")
        assert said.startswith("Mean weight norm over steps; at the end SGD 2.5, SGDP 1.2")


# ---- names


@pytest.fixture(scope="module")
def evil():
    """A study that has markup in every field that a user may fill."""
    optimizers = {
        EVIL: PlannedOptimizer(EVIL, EVIL, None, "#332288", {EVIL: (1e-3, 1.0)}, {EVIL: 0.1}),
        f"_{EVIL}p": PlannedOptimizer("", EVIL, EVIL, "#44aa99", {EVIL: (1e-3, 1.0)}, {EVIL: 0.1}),
    }
    metric = made.ACCURACY._replace(name=EVIL, unit=EVIL)
    plan = made.plan(
        optimizers, metric=metric, trials=4, seeds=2, task=EVIL, about=EVIL, data=[EVIL, EVIL],
        options={EVIL: EVIL}, invariant=[EVIL], settings={EVIL: EVIL},
    )  # fmt: skip
    records = made.finished(plan, names=[EVIL, f"{EVIL}2"])
    for record in records.values():
        record["metrics"][f"more {EVIL}"] = 0.5
        record["provenance"] |= dict.fromkeys(("machine", "command", "data", "commit", EVIL), EVIL)
        record["provenance"]["versions"] = {EVIL: EVIL}
    return report(plan, records)


def test_names_are_shown_as_they_are(chromium, evil, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page(evil), encoding="utf-8")
    with tab(chromium, path.as_uri()) as opened:
        assert opened.title() == f"{EVIL}: {EVIL}, _{EVIL}p"
        assert opened.locator("h1").text_content().startswith(EVIL)
        assert opened.locator(".legend button").first.text_content().strip() == EVIL
        assert opened.locator("body b, main script").count() == 0
        assert opened.locator("script").count() == 3
        axis = opened.locator("[data-figure=tuning] .xtitle").first
        assert axis.text_content() == EVIL
        plot = opened.locator("[data-figure=norm] .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.wait_for_selector("[data-figure=norm] .hoverlayer .legend", timeout=10_000)
        assert f"{EVIL} : " in opened.locator("[data-figure=norm] .hoverlayer").text_content()
        at = opened.locator("[data-figure=tuning] .points path").first
        at.scroll_into_view_if_needed()
        box = at.bounding_box()
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.wait_for_selector("[data-figure=tuning] .hoverlayer .hovertext", timeout=10_000)
        assert EVIL in opened.locator("[data-figure=tuning] .hoverlayer").first.text_content()


def test_names_are_shown_as_they_are_in_pictures_and_over_studies(chromium, evil, tmp_path):
    path, *pictures = write_overview([evil, evil], tmp_path)
    assert {p.name for p in pictures} == {"profile.png", "profile.svg", "studies.csv",
                                          "studies.parquet"}  # fmt: skip
    with tab(chromium, path.as_uri()) as opened:
        assert opened.locator("thead th").nth(2).text_content().strip() == EVIL
        assert opened.locator("body b, main script").count() == 0


# ---- quick


def test_a_large_study_is_small_and_opens_with_what_is_in_view(chromium, tmp_path):
    """It is there when the plots on the screen are; bench/page.py says how soon."""
    large = made.large()
    assert len(large.records) >= 200
    path = tmp_path / "report.html"
    path.write_text(page(large), encoding="utf-8")
    assert path.stat().st_size < 6e6
    with tab(chromium, path.as_uri(), viewport=TALL, early=COUNT_WHEN_OPENED) as opened:
        first, plots = opened.evaluate("window.first"), opened.locator(".plot").count()
        assert 0 < first < plots / 2
        assert opened.locator(".plot[data-drawn]").count() == plots


COUNT_WHEN_OPENED = """
new MutationObserver(() => {
  window.first = document.querySelectorAll(".plot[data-drawn]").length;
}).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-opened"] });
"""


# ---- while it runs


class Running:
    """A study that goes on, or breaks."""

    def __init__(self, whole):
        self.plan, self.all, self.count = whole.plan, list(whole.records.items()), 50
        self.error = None

    def __call__(self):
        if self.error:
            raise self.error
        return self.plan, dict(self.all[: self.count])


@pytest.fixture
def running(whole, monkeypatch):
    monkeypatch.setattr(watch, "PAUSE_S", 0.1)
    study = Running(whole)
    with watch.server(study, 0) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        study.url = served.url
        yield study
        served.shutdown()
        thread.join()


def test_the_page_follows_the_study(chromium, running):
    with tab(chromium, running.url) as opened:
        assert opened.inner_text(".verdict").startswith("50 of 108 trials are done")
        assert opened.locator("progress").get_attribute("value") == "50"
        opened.evaluate("scrollTo(0, 700)")
        running.count = 51
        opened.wait_for_selector("progress[value='51']", timeout=30_000)
        all_drawn(opened)
        assert opened.evaluate("scrollY") == 700
        assert opened.locator(".plot .main-svg").count() > 0


def test_an_error_is_shown_and_the_study_goes_on(chromium, running):
    with tab(chromium, running.url, drawn=False) as opened:
        running.error = OSError("database <b>is locked</b>")
        told = opened.locator(".verdict[role=alert]")
        told.wait_for(timeout=30_000)
        assert told.inner_text() == "OSError: database <b>is locked</b>"
        running.error, running.count = None, 108
        opened.wait_for_selector("[data-figure=norm]", timeout=30_000)
        assert opened.inner_text(".verdict").startswith("Accuracy: ")
        all_drawn(opened)


def test_a_record_that_cannot_be_summed_up_is_an_error_too(running):
    running.all = [(spec, {}) for spec, _ in running.all]
    assert "KeyError" in fetched(running.url)


def test_the_page_says_when_the_server_has_stopped(chromium, whole):
    served = watch.server(Running(whole), 0)
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


def test_it_renders_only_what_is_new(running, monkeypatch):
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


def test_only_this_machine_is_answered(running):
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
        with pytest.raises(OSError, match=f"port must be a free one .*, got {wrong}: "):
            watch.server(running, wrong)


def test_ctrl_c_ends_it():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # of a job
        "import made_study as made; from tangential_lab.cli.study.server import watch;"
        "plan = made.plan(); watch(lambda: (plan, {}), 0)"
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
