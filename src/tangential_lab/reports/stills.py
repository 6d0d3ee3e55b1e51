"""Figures as still pictures, PNG and SVG, drawn by matplotlib.

matplotlib takes half a second to import, so it is imported where something is drawn. Figures are
made without pyplot and under a style that ends with them: the user's own state stays as it was.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tangential.files import write_atomically
from tangential_lab.names import label
from tangential_lab.reports.figures import Axis, Figure, Heat, Panel, Series, Style

LOOK: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "font.family": "DejaVu Sans",  # matplotlib brings it
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "tangential",  # the same figure gives the same file
}
MARKS = "osD^vP<>h"
ACROSS, WIDTH, HEIGHT = 3, 4.6, 3.4  # panels in a row, and their size in inches
DPI = 160
DOTTED = 30  # fewer points than this show as such
LABELS = 24  # layers with a name each, at most


def draw(figure: Figure, styles: Mapping[str, Style], folder: Path) -> list[Path]:
    """Draw a figure into `folder` as PNG and as SVG; return the two paths."""
    from matplotlib import rc_context

    with rc_context(LOOK):
        drawn = _drawn(figure, styles)
        paths = []
        for suffix in ("png", "svg"):
            path = folder / f"{figure.key}.{suffix}"
            with write_atomically(path, "wb") as file:
                metadata: dict[str, Any] = {"Date": None} if suffix == "svg" else {}
                drawn.savefig(file, format=suffix, dpi=DPI, metadata=metadata)
            paths.append(path)
    return paths


def literal(text: str) -> str:
    r"""Text that matplotlib shows as it is; between dollar signs it sees mathematics.

    >>> literal("$x_1$") == r"\$x_1\$"
    True
    """
    return text.replace("$", r"\$")


def _drawn(figure: Figure, styles: Mapping[str, Style]) -> Any:
    from matplotlib.figure import Figure as Canvas

    columns = min(ACROSS, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    size = (max(6.4, WIDTH * columns), HEIGHT * rows + 0.9)
    canvas = Canvas(figsize=size, layout="constrained")
    canvas.suptitle(literal(figure.title), x=0.01, ha="left")
    places = canvas.subplots(rows, columns, squeeze=False).flat
    for place, panel in zip(places, figure.panels, strict=False):
        _panel(place, panel, styles)
    for place in places[len(figure.panels) :]:
        place.remove()
    heats = [panel.heat for panel in figure.panels if panel.heat]
    if heats:
        _scale(canvas)
    else:
        _legend(canvas, figure.panels, styles)
    return canvas


def _panel(place: Any, panel: Panel, styles: Mapping[str, Style]) -> None:
    place.set(title=literal(label(panel.title) if panel.heat else panel.title))
    place.set(xlabel=literal(panel.x.title), ylabel=literal(panel.y.title))
    if panel.heat:
        return _heat(place, panel.heat)
    for series in panel.series:
        style = styles[series.name]
        if panel.kind == "points":
            _points(place, series, style)
        else:
            _line(place, series, style, stairs=panel.kind == "stairs")
    _scales(place, panel.x, panel.y)
    return None


def _scales(place: Any, x: Axis, y: Axis) -> None:
    if x.log:
        place.set_xscale("log")
    if y.log:
        place.set_yscale("log")


def _line(place: Any, series: Series, style: Style, *, stairs: bool) -> None:
    look = {"color": style.colour, "linestyle": "--" if style.dashed else "-"}
    look |= {"drawstyle": "steps-post" if stairs else "default"}
    place.plot(series.x, series.y, marker="." if len(series.x) < DOTTED else None, **look)
    if series.low:
        place.fill_between(series.x, series.low, series.high, color=style.colour, alpha=0.15, lw=0)


def _points(place: Any, series: Series, style: Style) -> None:
    lost = set(series.lost)
    sound = [i for i in range(len(series.x)) if i not in lost]
    marks = [(sound, MARKS[style.mark % len(MARKS)], 22), (sorted(lost), "x", 26)]
    for kept, mark, size in marks:
        x, y = ([values[i] for i in kept] for values in (series.x, series.y))
        place.scatter(x, y, size, color=style.colour, marker=mark, linewidths=1)
    if series.best is not None:
        x, y = series.x[series.best], series.y[series.best]
        place.scatter([x], [y], 110, facecolors="none", edgecolors=style.colour, linewidths=1.4)


def _heat(place: Any, heat: Heat) -> None:
    from matplotlib.colors import LogNorm

    norm = LogNorm(heat.low, heat.high if heat.high > heat.low else heat.low * 1.1)
    edges = range(len(heat.layers) + 1)
    place.pcolormesh(_edges(heat.x), edges, heat.values, norm=norm, cmap="cividis", rasterized=True)
    place.invert_yaxis()
    place.grid(visible=False)
    named = len(heat.layers) <= LABELS
    names = [literal(name.removesuffix(".weight")) for name in heat.layers]
    place.set_yticks([i + 0.5 for i in range(len(names))] if named else [])
    if named:
        place.set_yticklabels(names, fontsize=6)


def _edges(x: Sequence[float]) -> list[float]:
    """Between columns half-way; the outer ones as far out as the next ones are in."""
    middles = [(a + b) / 2 for a, b in pairwise(x)]
    if not middles:
        return [x[0] - 0.5, x[0] + 0.5]
    return [2 * x[0] - middles[0], *middles, 2 * x[-1] - middles[-1]]


def _scale(canvas: Any) -> None:
    places = canvas.axes
    bar = canvas.colorbar(places[0].collections[0], ax=places, shrink=0.8, pad=0.02)
    bar.set_label("effective step")


def _legend(canvas: Any, panels: Sequence[Panel], styles: Mapping[str, Style]) -> None:
    """One for all panels, below them."""
    from matplotlib.lines import Line2D

    points = panels[0].kind == "points"
    names = dict.fromkeys(series.name for panel in panels for series in panel.series)
    handles = [_key(Line2D, styles[name], points=points) for name in names]
    shown = [
        f"\u200b{literal(label(name))}" for name in names
    ]  # else a name that begins with _ is left out
    columns = min(len(shown), 6 if len(panels) > 1 else 4)
    canvas.legend(handles, shown, loc="outside lower center", ncols=columns, handlelength=2.4)


def _key(line: Any, style: Style, *, points: bool) -> Any:
    look = {"color": style.colour, "linestyle": "--" if style.dashed else "-"}
    if points:
        look |= {"marker": MARKS[style.mark % len(MARKS)], "linestyle": "none"}
    return line([], [], **look)
