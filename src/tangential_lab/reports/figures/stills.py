"""Figures as still pictures, PNG and SVG, drawn by matplotlib.

matplotlib takes half a second to import, so it is imported where something is drawn. Figures are
made without pyplot and with temporary settings: the user's own settings of matplotlib stay.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tangential.files import write_atomically
from tangential_lab import styles as look
from tangential_lab.names import label
from tangential_lab.reports.figures.description import Axis, Figure, Heat, Panel, Series
from tangential_lab.styles import LineStyle

STYLE: Any = look.MATPLOTLIB | {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
}
WIDTH_IN, HEIGHT_IN = 4.6, 3.4  # of a panel, in inches
DPI = 160
SHORT = 30  # of a short axis: the ratio of its ends


def draw(figure: Figure, styles: Mapping[str, LineStyle], folder: Path) -> list[Path]:
    """Draw a figure into `folder` as PNG and as SVG; return the two paths."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        canvas = _canvas(figure, styles)
        paths = []
        for suffix in ("png", "svg"):
            path = folder / f"{figure.key}.{suffix}"
            with write_atomically(path, "wb") as file:
                metadata: dict[str, Any] = {"Date": None} if suffix == "svg" else {}
                canvas.savefig(file, format=suffix, dpi=DPI, metadata=metadata)
            canvas.set_layout_engine("none")  # the SVG has the layout of the PNG
            paths.append(path)
    return paths


def escaped(text: str) -> str:
    r"""Text that matplotlib shows as it is; it reads text between dollar signs as formulas.

    >>> escaped("$x_1$") == r"\$x_1\$"
    True
    """
    return text.replace("$", r"\$")


def _canvas(figure: Figure, styles: Mapping[str, LineStyle]) -> Any:
    from matplotlib.figure import Figure as Canvas

    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    size = (max(6.4, WIDTH_IN * columns), HEIGHT_IN * rows + 0.9)
    canvas = Canvas(figsize=size, layout="constrained")
    canvas.suptitle(escaped(figure.title), x=0.01, ha="left")
    axes = canvas.subplots(rows, columns, squeeze=False).flat
    for ax, panel in zip(axes, figure.panels, strict=False):
        _panel(ax, panel, styles)
    for ax in axes[len(figure.panels) :]:
        ax.remove()
    if any(panel.heat for panel in figure.panels):
        _colour_bar(canvas)
    else:
        _legend(canvas, figure.panels, styles)
    return canvas


def _panel(ax: Any, panel: Panel, styles: Mapping[str, LineStyle]) -> None:
    ax.set(title=escaped(label(panel.title) if panel.heat else panel.title))
    ax.set(xlabel=escaped(panel.x.title), ylabel=escaped(panel.y.title))
    if panel.heat:
        return _heat(ax, panel.heat)
    for series in panel.series:
        style = styles[series.name]
        if panel.kind == "points":
            _points(ax, series, style)
        else:
            _line(ax, series, style, stairs=panel.kind == "stairs")
    _scales(ax, panel.x, panel.y)
    return None


def _scales(ax: Any, x: Axis, y: Axis) -> None:
    if x.log:
        ax.set_xscale("log")
    if y.log:
        ax.set_yscale("log")
    if x.limits:
        ax.set_xlim(*x.limits)
    if y.limits:
        ax.set_ylim(*y.limits)
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if axis.get_scale() == "log":
            _ticks(axis, short=high < SHORT * low)


def _ticks(axis: Any, *, short: bool) -> None:
    """Label the decades; on a short axis 1, 2 and 5 of each. By default all 9 may overlap."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    axis.set_minor_formatter(NullFormatter())
    if short:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        every = (math.inf, math.inf)
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=every))


def _line(ax: Any, series: Series, style: LineStyle, *, stairs: bool) -> None:
    options = {"color": style.colour, "linestyle": "--" if style.dashed else "-"}
    options |= {"drawstyle": "steps-post" if stairs else "default"}
    few = len(series.x) < look.FEW_POINTS and not stairs
    ax.plot(series.x, series.y, marker="." if few else None, **options)
    if series.low:
        band = {"color": style.colour, "alpha": look.BAND_OPACITY, "lw": 0}
        ax.fill_between(series.x, series.low, series.high, **band)


def _points(ax: Any, series: Series, style: LineStyle) -> None:
    diverged = set(series.diverged)
    sound = [i for i in range(len(series.x)) if i not in diverged]
    for indices, mark, size in ((sound, style.symbol, 22), (sorted(diverged), "x", 26)):
        x, y = ([values[i] for i in indices] for values in (series.x, series.y))
        drawn = ax.scatter(x, y, size, color=style.colour, marker=mark, linewidths=1)
        if style.dashed and mark != "x":
            drawn.set_facecolor("none")
    if series.best is not None:
        x, y = series.x[series.best], series.y[series.best]
        ax.scatter([x], [y], 110, facecolors="none", edgecolors=style.colour, linewidths=1.4)


def _heat(ax: Any, heat: Heat) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    colours = LinearSegmentedColormap.from_list("heat", look.HEAT)
    norm = LogNorm(heat.low, heat.high if heat.high > heat.low else heat.low * 1.1)
    mesh = {"norm": norm, "cmap": colours, "rasterized": True}
    ax.pcolormesh(_edges(heat.x), range(len(heat.layers) + 1), heat.values, **mesh)
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.set_yticks([i + 0.5 for i in range(len(heat.labels))])
    ax.set_yticklabels([escaped(name) for name in heat.labels], fontsize=6)


def _edges(x: Sequence[float]) -> list[float]:
    """Edges halfway between the columns; the outer columns are symmetric about their centre."""
    middles = [(a + b) / 2 for a, b in pairwise(x)]
    if not middles:
        return [x[0] - 0.5, x[0] + 0.5]
    return [2 * x[0] - middles[0], *middles, 2 * x[-1] - middles[-1]]


def _colour_bar(canvas: Any) -> None:
    axes = canvas.axes
    bar = canvas.colorbar(axes[0].collections[0], ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("effective step")


def _legend(canvas: Any, panels: Sequence[Panel], styles: Mapping[str, LineStyle]) -> None:
    """One legend for all panels, below them."""
    from matplotlib.lines import Line2D

    names = dict.fromkeys(series.name for panel in panels for series in panel.series)
    handles = [Line2D([], [], **_handle(styles[name], panels[0].kind)) for name in names]
    # matplotlib leaves out a label that begins with _, so each starts with a zero-width space
    labels = [f"\u200b{escaped(label(name))}" for name in names]
    columns = min(len(labels), 6 if len(panels) > 1 else 4)
    canvas.legend(handles, labels, loc="outside lower center", ncols=columns)


def _handle(style: LineStyle, kind: str) -> dict[str, Any]:
    if kind == "points":
        face = "none" if style.dashed else style.colour
        return {"color": style.colour, "marker": style.symbol, "mfc": face, "linestyle": "none"}
    return {"color": style.colour, "linestyle": "--" if style.dashed else "-"}
