"""The page in a browser: all figures are drawn, and no name becomes markup."""

import re

import made_study as made
import pytest
from browser import WIDE, near, shot, tab

from tangential_lab.names import label
from tangential_lab.reports import page, report, write_overview
from tangential_lab.studies import PlannedOptimizer
from tangential_lab.styles import HEAT

pytestmark = pytest.mark.slow

EVIL = "<script>alert('x')</script><b>\"a\" & </script>$x_1$ %{x}"


# ---- drawn


def test_all_figures_are_drawn(chromium, url, study):
    panels = sum(len(figure.panels) for figure in study.figures)
    with tab(chromium, url) as opened:
        assert opened.locator(".plot").count() == panels
        assert opened.locator(".plot .drawing").count() == panels
        norm = opened.locator("[data-figure=norm] .ink")
        assert norm.count() == len(study.plan.optimizers)
        assert norm.locator(".line").count() == norm.locator(".band").count() == norm.count()
        layers = opened.locator("[data-figure=layers] .plot")
        assert layers.locator("image").count() == len(study.plan.optimizers)
        assert near(shot(layers.first), HEAT[0]) > 20


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
        tip = opened.locator(".tip")
        point_at(opened, opened.locator("[data-figure=norm] .plot"))
        title, *lines = tip.inner_text().split("\n\n")
        assert re.fullmatch(r"step \d+", title)
        names = {label(optimizer) for optimizer in study.plan.optimizers}
        assert {line.partition(": ")[0] for line in lines} == names
        values = [float(line.partition(": ")[2]) for line in lines]
        assert values == sorted(values, reverse=True)
        assert opened.locator(".guide").count() == 1
        point_at(opened, opened.locator("[data-figure=tuning] .mark").first)
        assert " at lr " in tip.inner_text()
        point_at(opened, opened.locator("[data-figure=layers] .plot").first)
        assert re.match(r"layer\d.*\.weight\s+step [\d.]+: 0\.\d+", tip.inner_text())
        opened.mouse.move(0, 0)
        assert not tip.is_visible()
        assert opened.locator(".guide").count() == 0


def point_at(opened, place):
    """Move the pointer to the middle of a place."""
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_legend_hides_an_optimizer_everywhere(chromium, url, study):
    lines = ":is([data-figure=norm], [data-figure=budget]) :is(.line, .band)"
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
        point_at(opened, opened.locator("[data-figure=norm] .plot"))
        assert f"{EVIL}: " in opened.locator(".tip").inner_text()
        point_at(opened, opened.locator("[data-figure=tuning] .mark").first)
        assert EVIL in opened.locator(".tip").inner_text()


def test_names_are_shown_as_they_are_in_pictures_and_over_studies(chromium, evil, tmp_path):
    path, *pictures = write_overview([evil, evil], tmp_path)
    assert {p.name for p in pictures} == {"profile.png", "profile.svg", "studies.csv",
                                          "studies.parquet"}  # fmt: skip
    with tab(chromium, path.as_uri()) as opened:
        assert opened.locator("thead th").nth(2).text_content().strip() == EVIL
        assert opened.locator("body b, main script").count() == 0


# ---- quick


def test_a_large_page_is_small_and_is_drawn_at_once(chromium, tmp_path):
    """bench/page.py measures how soon it is drawn."""
    large = made.large()
    assert len(large.records) >= 200
    path = tmp_path / "report.html"
    path.write_text(page(large), encoding="utf-8")
    assert path.stat().st_size < 2e6
    with tab(chromium, path.as_uri()) as opened:
        assert opened.locator(".plot").count() == opened.locator(".drawing").count() > 10
