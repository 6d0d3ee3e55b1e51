"""Pages that are whole in themselves: no request leaves them, and no name becomes markup.

Jinja2 and Plotly are imported where a page is made.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from tangential_lab.names import label
from tangential_lab.reports import wording
from tangential_lab.reports.figures import Figure, Style, plain
from tangential_lab.reports.statistics import MIN_SEEDS, Interval
from tangential_lab.terminal import whole

LIGHT_PAPER, DARK_PAPER = "#ffffff", "#15181c"  # as in page.css
CONTRAST = 3.0  # of a line with it, at least (WCAG 2.2, 1.4.11)
LINE_HEIGHT, HEAT_HEIGHTS = 300, (200, 460)  # of a plot, in pixels
LAYER_HEIGHT, HEAT_MARGIN = 11, 90


def render(
    template: str,
    figures: Sequence[Figure],
    styles: Mapping[str, Style],
    *,
    live: str | None = None,
    **context: Any,
) -> str:
    """A page with its figures.

    Args:
        template: Its file.
        figures: On it.
        styles: Of optimizers.
        live: Version of what it shows, for a page that is served.
        context: For the template.
    """
    data = {"figures": plain(figures), "styles": {n: _look(n, s) for n, s in styles.items()}}
    scripts = [_plotly(), _file("page.js")]
    return (
        _environment()
        .get_template(template)
        .render(
            **context,
            figures={figure.key: figure for figure in figures},
            styles={name: _look(name, style) for name, style in styles.items()},
            data=_markup(json.dumps(data, separators=(",", ":")).replace("<", r"\u003c")),
            css=_markup(_file("page.css")),
            scripts=[_markup(script) for script in scripts],
            policy=_policy(scripts, live=live is not None),
            live=live,
        )
    )


def on_dark(colour: str) -> str:
    """The colour, mixed with white until it can be seen on dark paper.

    >>> on_dark("#1d99c5"), on_dark("#000000")
    ('#1d99c5', '#666666')
    """
    return _seen(colour, DARK_PAPER, 255)


def on_light(colour: str) -> str:
    """The colour, mixed with black until it can be seen on white paper.

    >>> on_light("#1d99c5"), on_light("#ffffff")
    ('#1d99c5', '#8c8c8c')
    """
    return _seen(colour, LIGHT_PAPER, 0)


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours, from 1 to 21 (WCAG 2.2).

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    low, high = sorted(_light(_channels(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def _seen(colour: str, paper: str, end: int) -> str:
    for part in range(0, 101, 5):
        mixed = [round(x + (end - x) * part / 100) for x in _channels(colour)]
        text = "#" + "".join(f"{x:02x}" for x in mixed)
        if contrast(text, paper) >= CONTRAST:
            return text
    return colour


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _light(channels: Sequence[int]) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (x / 255 for x in channels)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _look(name: str, style: Style) -> dict[str, Any]:
    return {**style._asdict(), "dark": on_dark(style.colour), "label": label(name)}


def height(figure: Figure) -> int:
    """Of each of its plots, in pixels; a heat map grows with its layers."""
    layers = max((len(panel.heat.layers) for panel in figure.panels if panel.heat), default=0)
    low, high = HEAT_HEIGHTS
    return min(high, max(low, HEAT_MARGIN + LAYER_HEIGHT * layers)) if layers else LINE_HEIGHT


def whisker(found: Interval, among: Sequence[Interval]) -> dict[str, float] | None:
    """Where an interval, its mean and zero lie, in hundredths of what all intervals span."""
    known = [x for one in among if one.known for x in (one.low, one.high)]
    if not found.known or not known:
        return None
    low, high = min(0.0, *known), max(0.0, *known)
    at = lambda x: round(4 + 92 * (x - low) / ((high - low) or 1.0), 2)
    return {"low": at(found.low), "high": at(found.high), "mean": at(found.mean), "zero": at(0.0)}


# ---- the parts of a page


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("tangential_lab.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(wording=wording, label=label, height=height, whisker=whisker)
    made.globals.update(min_seeds=MIN_SEEDS)
    made.filters.update(number=wording.number, p=wording.p_value, whole=whole)
    return made


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


@cache
def _file(name: str) -> str:
    return (files("tangential_lab.reports") / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _policy(scripts: Sequence[str], *, live: bool) -> str:
    """What the browser may load: nothing, and of scripts only ours, known by their digests."""
    source = "'self'" if live else "'none'"
    digests = [b64encode(sha256(text.encode()).digest()).decode() for text in scripts]
    ours = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {ours}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {source}; base-uri 'none'; form-action 'none'"
    )
