"""Time the opening of a study's page in Chromium: until what is in view is drawn.

    python bench/page.py [REPORT.html ...] [--rounds 9]

By default of a large study that nobody ran: 200 trials of 500 points, 150 of them with 60 layers.
"""

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from tangential_lab.reports.report import page

SCREEN = {"width": 1280, "height": 1300}  # so tall that the first plots are in view
NAMES = ("chromium", "chromium-browser", "google-chrome")


def opening_s(chromium, path):
    """Seconds from the request of a page until what is in view is drawn."""
    opened = chromium.new_page(viewport=SCREEN)
    opened.goto(path.resolve().as_uri())
    opened.wait_for_selector("html[data-opened]", state="attached", timeout=60_000)
    milliseconds = opened.get_attribute("html", "data-opened")
    opened.close()
    return float(milliseconds) / 1000


def large(folder):
    """The page of the tests' large study, in `folder`."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import made_study

    path = folder / "large.html"
    path.write_text(page(made_study.large()), encoding="utf-8")
    return path


def main():
    """Print every page's median, and its size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", type=Path, metavar="REPORT.html")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, NAMES)), None)
    with TemporaryDirectory() as aside, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for path in options.pages or [large(Path(aside))]:
            times = [opening_s(chromium, path) for _ in range(options.rounds)]
            size = path.stat().st_size / 1e6
            print(f"{path}  {size:.1f} MB  median {statistics.median(times):.2f} s", end="  ")
            print(f"{min(times):.2f} to {max(times):.2f}")
        chromium.close()


if __name__ == "__main__":
    main()
