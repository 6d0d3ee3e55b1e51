"""Colours and line styles of all figures: on pages, in picture files and of the toy problems."""

from typing import Any, NamedTuple

LIGHT_PAPER, DARK_PAPER = "#ffffff", "#15181c"  # as in page.css
CONTRAST = 3.0  # least contrast of a line with its background (WCAG 2.2, 1.4.11)
DASH = (3.0, 1.5)  # of a baseline's line: dash and gap, in line widths
LINE_WIDTH = 2.0
BAND_OPACITY = 0.15
FEW_POINTS = 30  # a line with fewer points has a marker at each point
RUNS = (  # colours of monitored runs; Okabe and Ito's, which colour-blind people can tell apart
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#56b4e9", "#e69f00", "#000000", "#8c6d31"),
)
NAMED_LAYERS = 24  # a heat map with more layers has no names on its axis
MARKS = (*"osD^vP<>h",)  # shapes of points, as matplotlib names them; plots.js draws the same
HEAT = (  # of a heat map, from low to high: Cividis, which colour-blind people can read, too
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
)
MATPLOTLIB: dict[str, Any] = {  # for `rc_context`
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "font.family": "DejaVu Sans",  # a part of matplotlib
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.dashed_pattern": DASH,
    "lines.linewidth": LINE_WIDTH,
    "svg.hashsalt": "tangential",  # the same figure gives the same file
}


class LineStyle(NamedTuple):
    """How an optimizer is drawn."""

    colour: str  # "#rrggbb", for light paper
    dashed: bool  # a baseline
    mark: int  # index of its points' shape in MARKS

    @property
    def symbol(self) -> str:
        """The shape of its points, as matplotlib names it."""
        return MARKS[self.mark % len(MARKS)]


def on_dark(colour: str) -> str:
    """The colour, mixed with white until it can be seen on dark paper.

    >>> on_dark("#1d99c5"), on_dark("#000000")
    ('#1d99c5', '#666666')
    """
    return _visible(colour, DARK_PAPER, 255)


def on_light(colour: str) -> str:
    """The colour, mixed with black until it can be seen on white paper.

    >>> on_light("#1d99c5"), on_light("#ffffff")
    ('#1d99c5', '#8c8c8c')
    """
    return _visible(colour, LIGHT_PAPER, 0)


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours, from 1 to 21 (WCAG 2.2).

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    low, high = sorted(map(_luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def _visible(colour: str, paper: str, end: int) -> str:
    for part in range(0, 101, 5):
        mixed = [round(x + (end - x) * part / 100) for x in _channels(colour)]
        text = "#" + "".join(f"{x:02x}" for x in mixed)
        if contrast(text, paper) >= CONTRAST:
            return text
    return colour


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    shares = [x / 255 for x in _channels(colour)]
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
