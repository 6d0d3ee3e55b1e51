"""HTML pages that load no other file, and in which all names are escaped.

Jinja2 is imported where a page is made.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from tangential_lab import styles as look
from tangential_lab.names import label
from tangential_lab.reports import wording
from tangential_lab.reports.figures.description import Figure, plain
from tangential_lab.statistics import MIN_SEEDS, Interval
from tangential_lab.styles import LineStyle, on_dark
from tangential_lab.terminal import keep_units

LINE_HEIGHT_PX, HEAT_HEIGHTS_PX = 300, (200, 460)  # of a plot; of a heat map, smallest and largest
LAYER_HEIGHT_PX, HEAT_MARGIN_PX = 11, 90
LOOK = {"few": look.FEW_POINTS, "heat": look.HEAT}  # for plots.js


def render(
    template: str,
    figures: Sequence[Figure],
    styles: Mapping[str, LineStyle],
    *,
    live: str | None = None,
    **context: Any,
) -> str:
    """A page with its figures.

    Args:
        template: Name of its file.
        figures: Figures that the page may show.
        styles: Line styles by name of the optimizer.
        live: Version of the content, if the page is served while a study runs.
        context: Further values for the template.
    """
    keys = {name: _key(name, style) for name, style in styles.items()}
    data = {"figures": plain(figures), "styles": keys, "look": LOOK}
    scripts = [_file("plots.js"), _file("page.js")]
    return (
        _environment()
        .get_template(template)
        .render(
            **context,
            figures={figure.key: figure for figure in figures},
            styles=keys,
            heat_colours=", ".join(look.HEAT),
            data=_markup(json.dumps(data, separators=(",", ":")).replace("<", r"\u003c")),
            css=_markup(_file("page.css")),
            scripts=[_markup(script) for script in scripts],
            policy=_policy(scripts, live=live is not None),
            live=live,
        )
    )


def error_page(error: str, version: str) -> str:
    """The page that is served while a study cannot be read."""
    return render("error.html.jinja", [], {}, live=version, error=error)


def height_px(figure: Figure) -> int:
    """The height of each of its plots; a heat map grows with its layers."""
    layers = max((len(panel.heat.layers) for panel in figure.panels if panel.heat), default=0)
    low, high = HEAT_HEIGHTS_PX
    if not layers:
        return LINE_HEIGHT_PX
    return min(high, max(low, HEAT_MARGIN_PX + LAYER_HEIGHT_PX * layers))


def whisker(interval: Interval, among: Sequence[Interval]) -> dict[str, float] | None:
    """Positions of an interval's ends, mean and zero, in percent of the range of all intervals."""
    ends = [x for other in among if other.known for x in (other.low, other.high)]
    if not interval.known or not ends:
        return None
    low, high = min(0.0, *ends), max(0.0, *ends)
    values = {"low": interval.low, "high": interval.high, "mean": interval.mean, "zero": 0.0}
    return {k: round(4 + 92 * (x - low) / ((high - low) or 1.0), 2) for k, x in values.items()}


# ---- the parts of a page


def _key(name: str, style: LineStyle) -> dict[str, Any]:
    return {**style._asdict(), "dark": on_dark(style.colour), "label": label(name)}


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tangential_lab.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(wording=wording, label=label, height_px=height_px)
    environment.globals.update(whisker=whisker, min_seeds=MIN_SEEDS)
    environment.filters.update(number=wording.number, p=wording.p_value, keep_units=keep_units)
    environment.filters.update(label=label)
    return environment


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


@cache
def _file(name: str) -> str:
    return (files("tangential_lab.reports") / "templates" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str], *, live: bool) -> str:
    """The Content-Security-Policy: it allows only our own scripts, identified by their digests."""
    source = "'self'" if live else "'none'"
    digests = [b64encode(sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {source}; base-uri 'none'; form-action 'none'"
    )
