"""Time how long Chromium takes to open the page of a study and draw its figures.

    python bench/page.py [REPORT.html ...] [--rounds 9]

The default is a large invented study: 200 trials of 500 points, 150 of them with 60 layers.
"""

import shutil
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright
from timing import interleaved, options_of

from tangential_lab.reports import page

NAMES = ("chromium", "chromium-browser", "google-chrome")


def opening_s(chromium, path):
    """Seconds from the request of a page until all figures are drawn."""
    opened = chromium.new_page()
    opened.goto(path.resolve().as_uri())
    opened.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
    milliseconds = opened.get_attribute("html", "data-drawn")
    opened.close()
    return float(milliseconds) / 1000


def large_page(folder):
    """Write the page of the large invented study that the tests use."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import made_study

    path = folder / "large.html"
    path.write_text(page(made_study.large()), encoding="utf-8")
    return path


def main():
    """Print the size and the median of every page."""
    parser = options_of(__doc__)
    parser.add_argument("pages", nargs="*", type=Path, metavar="REPORT.html")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, NAMES)), None)
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        pages = options.pages or [large_page(Path(folder))]
        actions = {str(path): partial(opening_s, chromium, path) for path in pages}
        for path, times in interleaved(actions, options.rounds).items():
            size_mb = Path(path).stat().st_size / 1e6
            print(f"{path}  {size_mb:.1f} MB  median {median(times):.2f} s", end="  ")
            print(f"{min(times):.2f} to {max(times):.2f}")
        chromium.close()


if __name__ == "__main__":
    main()
