"""Draw docs/cosine_2d.png: the slowdown in the plane, as `tangential toy 2d` shows it."""

from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from tangential_lab.theory import draw_toy, run_toy


def main():
    """Draw paths, norms and losses side by side, without the variant of the published code."""
    shown = [run for run in run_toy("2d", [0.9]) if run.name != "SGDP, published buffer"]
    with TemporaryDirectory() as folder:
        png, *_ = draw_toy("2d", shown, Path(folder))
        copy(png, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
