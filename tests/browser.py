"""Pages in a browser."""

import io
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def launched():
    """A running Chromium; skips where it or Playwright is not installed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def tab(chromium, url, *, site=None, drawn=True, early="", **options):
    """An open page with all plots drawn; it must print nothing and request nothing else.

    Args:
        chromium: The browser.
        url: Of the page.
        site: The part of the address from which it may request more; by default the page's own.
        drawn: Wait until all plots are drawn.
        early: A script to run before the page's own.
        options: Of the browser's context.
    """
    context = chromium.new_context(**{"viewport": WIDE, "color_scheme": "light", **options})
    page, messages, requests = context.new_page(), [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("dialog", lambda dialog: (messages.append("dialog"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    context.add_init_script(early)
    page.goto(url)
    if drawn:
        all_drawn(page)
    try:
        yield page
        assert messages == []
        assert {r for r in requests if not r.startswith(("data:", site or url))} == set()
    finally:
        context.close()


def all_drawn(page):
    """Wait until all plots are drawn."""
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)


def shot(place):
    """A picture of a part of a page."""
    return Image.open(io.BytesIO(place.screenshot())).convert("RGB")


def near(picture, colour):
    """How many pixels nearly have the colour `colour`."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(np.asarray(picture, int) - wanted).max(axis=2) < 12).sum())
