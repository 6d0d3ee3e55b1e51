"""The page can be read: wide and narrow, light and dark, on paper and by a screen reader."""

from itertools import pairwise

import pytest
from browser import PHONE, WIDE, near, shot, tab

from tangential_lab.styles import HEAT, on_dark

pytestmark = pytest.mark.slow

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
               [p.clientWidth, p.querySelector(".drawing").getBoundingClientRect().width])"""
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
def test_labels_do_not_overlap(chromium, url, width):
    """Titles of axes keep clear of the numbers, and numbers of one another."""
    with tab(chromium, url, viewport={"width": width, "height": 900}) as opened:
        assert opened.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_heat_map_has_one_scale_of_colours(chromium, url, size):
    with tab(chromium, url, viewport=size) as opened:
        assert opened.locator(".scale").count() == 1
        bar = opened.locator(".colours")
        colours = bar.evaluate("(bar) => getComputedStyle(bar).backgroundImage")
        assert colours.count("rgb(") == len(HEAT)
        low, bar, high = opened.locator(".scale > span").all()
        assert float(low.inner_text()) < float(high.inner_text())
        boxes = [place.bounding_box() for place in (low, bar, high)]
        for left, right in pairwise(boxes):
            assert left["x"] + left["width"] <= right["x"]
        assert boxes[-1]["x"] + boxes[-1]["width"] <= size["width"]


def test_a_table_that_does_not_fit_has_a_hint(chromium, url):
    with tab(chromium, url, viewport=PHONE, has_touch=True, is_mobile=True) as opened:
        table = opened.locator(".scroll").first
        hint = opened.locator(".more").first
        assert table.evaluate("(t) => t.scrollWidth > t.clientWidth")
        assert hint.is_visible()
        assert "cut" in table.get_attribute("class")
        table.evaluate("(t) => t.scrollTo(10_000, 0)")
        opened.wait_for_selector(".scroll:not(.cut) tbody th")
        name = opened.locator(".scroll tbody th").first.bounding_box()
        assert 0 <= name["x"] < 30  # the optimizer's name stays
    with tab(chromium, url) as opened:
        assert not opened.locator(".scroll.cut").count()
        assert not opened.locator(".more").first.is_visible()


def test_colours_follow_the_scheme(chromium, url, study):
    with tab(chromium, url) as opened:
        opened.emulate_media(color_scheme="dark")
        opened.wait_for_timeout(1500)
        picture = shot(opened.locator("[data-figure=budget] .plot"))
        assert near(picture, on_dark("#842f73")) > 20
        assert near(picture, "#15181c") > 0.5 * picture.width * picture.height


def test_a_printed_page_is_light_and_narrow(chromium, url, tmp_path):
    with tab(chromium, url, color_scheme="dark") as opened:
        path = tmp_path / "page.pdf"
        opened.pdf(path=path, format="A4")
        assert 3 <= path.read_bytes().count(b"/Type /Page\n") <= 12
        opened.evaluate("dispatchEvent(new Event('beforeprint'))")
        widths = opened.evaluate(
            "[...document.querySelectorAll('.plot .drawing')].map((s) => s.getAttribute('width'))"
        )
        assert set(widths) == {"330"}
        assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        opened.evaluate("dispatchEvent(new Event('afterprint'))")
        assert opened.locator("[data-figure=norm] .drawing").first.get_attribute("width") != "330"


def test_the_keyboard_reaches_the_content_first(chromium, url, study):
    with tab(chromium, url) as opened:
        opened.keyboard.press("Tab")
        assert opened.evaluate("document.activeElement.innerText") == "Skip to the content"
        opened.keyboard.press("Enter")
        assert opened.evaluate("document.activeElement.id") == "content"
        stops = opened.evaluate(
            """[...document.querySelectorAll("a, button, summary, [tabindex]")]
                 .filter((place) => place.tabIndex >= 0 && place.checkVisibility()).length"""
        )
        assert stops == len(study.plan.optimizers) + 3  # the skip link, method, files


def test_a_screen_reader_finds_its_way(chromium, url):
    with tab(chromium, url) as opened:
        wrong = opened.evaluate(
            """[
              ...[...document.querySelectorAll("table")].filter((t) =>
                !t.caption?.textContent.trim()
                || [...t.querySelectorAll("th")].some((th) => !th.scope)),
              ...[...document.querySelectorAll(".plot")].filter((p) =>
                p.getAttribute("role") !== "img" || p.ariaLabel.length < 20),
              ...[...document.querySelectorAll(".scroll")].filter((s) => !s.ariaLabel),
            ].length"""
        )
        assert wrong == 0
        assert opened.locator("h1").count() == 1
        said = opened.locator("[data-figure=norm] .plot").get_attribute("aria-label")
        assert said.startswith("Mean weight norm over steps; at the end SGD 2.5, SGDP 1.2")
