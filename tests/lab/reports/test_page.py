"""The page in a browser: all figures are drawn, and no name becomes markup."""

import re

import made_study as made
import pytest
from browser import WIDE, near, shot, tab

from tangential_lab.names import label
from tangential_lab.reports import page, report, write_overview
from tangential_lab.studies import PlannedOptimizer

pytestmark = pytest.mark.slow

TALL = {"width": 1280, "height": 1300}  # the first plots are in view
EVIL = "<script>alert('x')</script><b>\"a\" & </script>$x_1$ %{x}"


# ---- drawn


def test_all_figures_are_drawn(chromium, url, study):
    panels = sum(len(figure.panels) for figure in study.figures)
    with tab(chromium, url) as opened:
        assert opened.locator(".plot").count() == panels
        assert opened.locator(".plot .main-svg:first-child").count() == panels
        lines = opened.locator("[data-figure=norm] .scatterlayer .js-line").count()
        assert lines == 2 * len(study.plan.optimizers)  # a band and a line each
        assert opened.locator("[data-figure=layers] .hm image").count() == len(
            study.plan.optimizers
        )
        problems = opened.evaluate(
            "[...document.querySelectorAll('.plot')]"
            ".flatMap((p) => Plotly.validate(p.data, p.layout) ?? []).map((x) => x.msg)"
        )
        assert problems == []


def test_lines_have_the_colours_of_their_optimizers(chromium, url, study):
    with tab(chromium, url) as opened:
        picture = shot(opened.locator("[data-figure=budget] .plot"))
        for optimizer in study.plan.optimizers.values():
            assert near(picture, optimizer.colour) > 20, optimizer.colour


def test_the_verdict_comes_first(chromium, url, study):
    with tab(chromium, url) as opened:
        text = opened.inner_text("body")
        assert text.index(study.headline) < text.index("95 % interval") < text.index("ms per step")
        top = opened.locator(".verdict").bounding_box()
        assert top["y"] < 200
        assert opened.locator("table").first.bounding_box()["y"] < WIDE["height"]


def test_the_pointer_shows_names_and_values(chromium, url, study):
    with tab(chromium, url) as opened:
        plot = opened.locator("[data-figure=norm] .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.wait_for_selector("[data-figure=norm] .hoverlayer .legend", timeout=10_000)
        text = opened.locator("[data-figure=norm] .hoverlayer").text_content()
        assert re.search(r"step \d+SGD : ", text)
        for optimizer in study.plan.optimizers:
            assert f"{label(optimizer)} : " in text
        plot = opened.locator("[data-figure=tuning] .plot").first
        plot.scroll_into_view_if_needed()
        at = opened.locator("[data-figure=tuning] .points path").first.bounding_box()
        opened.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        opened.wait_for_selector("[data-figure=tuning] .hoverlayer .hovertext", timeout=10_000)
        text = opened.locator("[data-figure=tuning] .hoverlayer").first.text_content()
        assert " at lr " in text


def test_the_legend_hides_an_optimizer_everywhere(chromium, url, study):
    lines = "[data-figure=norm] .scatterlayer .js-line, [data-figure=budget] .scatterlayer .js-line"
    with tab(chromium, url) as opened:
        before = opened.locator(lines).count()
        button = opened.locator(".legend button", has_text="adamw")
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert opened.locator(lines).count() == before - 3  # a band, two lines
        button.click()
        assert opened.locator(lines).count() == before


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


def test_a_large_page_is_small_and_draws_the_plots_in_view_first(chromium, tmp_path):
    """bench/page.py measures how soon the first plots are drawn."""
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
