"""The built site: complete, readable on a phone, and without requests to other hosts."""

import pytest
from browser import PHONE, WIDE, tab

pytestmark = pytest.mark.slow

PAGES = ("", "why/", "ideas/decay/", "choosing/", "monitor/", "api/", "results/imagenet/")


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide", "phone"]
)
def test_pages_fit_and_request_nothing_from_other_hosts(chromium, address, viewport, scheme):
    for name in PAGES:
        options = {"viewport": viewport, "color_scheme": scheme, "drawn": False}
        with tab(chromium, address + name, site=address, **options) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name
            images = "[...document.images].every((image) => image.naturalWidth > 0)"
            assert page.evaluate(images), name


def test_equations_and_doctests_are_rendered(site):
    assert "<math" in (site / "ideas/projection/index.html").read_text("utf-8")
    api = (site / "api/index.html").read_text("utf-8")
    assert "AdamW ends at [2.9, 4.1]" in api
    assert "<blockquote>" not in api  # what Markdown makes of ">>>"


def test_no_page_has_an_address_of_a_script_or_font_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert 'src="http' not in text, page
        assert "fonts.g" not in text, page
