"""Draw docs/cosine_2d.png: the slowdown in the plane, as `tangential toy 2d` shows it."""

from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from tangential_lab.theory.pictures import draw
from tangential_lab.theory.runs import runs


def main():
    """Paths, norms and losses side by side, without the published code's variant."""
    shown = [run for run in runs("2d", [0.9]) if run.name != "SGDP, published buffer"]
    with TemporaryDirectory() as folder:
        png, *_ = draw("2d", shown, Path(folder))
        copy(png, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
