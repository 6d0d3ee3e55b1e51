"""The figure of the gate. matplotlib takes half a second to import, so it is imported late."""

import math
from pathlib import Path
from typing import Any

from tangential_lab import styles
from tangential_lab.theory.gate.chance import ChanceRates
from tangential_lab.theory.gate.trainings import Examined
from tangential_lab.theory.pictures import DPI, FAINT, INK, STYLE
from tangential_lab.training import OPTIMIZERS

BY_ROW, BY_WEIGHT = OPTIMIZERS["adamp"].colour, OPTIMIZERS["sgdp"].colour
NO_PROJECTION = "#e4e4e4"
CURVE_POINTS = 100
CELL = 0.86  # width of a bar that means 100 %
BELOW: Any = {
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.14),
    "fontsize": 9,
    "columnspacing": 1.2,
    "handlelength": 1.2,
}
SIZE = (12.0, 5.2)  # inches


def gate_files(folder: Path) -> list[Path]:
    """The files that `draw_gate` writes."""
    return [folder / "gate.png", folder / "gate.svg"]


def draw_gate(rates: list[ChanceRates], examined: list[Examined], folder: Path) -> list[Path]:
    """Draw how often the gate fires, by chance and for the examples; return the files' paths."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    folder.mkdir(parents=True, exist_ok=True)
    png, svg = paths = gate_files(folder)
    with rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(wspace=0.06))
        grid = figure.add_gridspec(1, 3, width_ratios=(1.15, 1.15, 0.75))
        chance, decisions = (figure.add_subplot(grid[0, i]) for i in (0, 1))
        radial = figure.add_subplot(grid[0, 2], sharey=decisions)
        _chance(chance, rates)
        _decisions(decisions, examined)
        _radial(radial, examined)
        figure.savefig(png, dpi=DPI)
        figure.savefig(svg, metadata={"Date": None})
    return paths


def _chance(panel: Any, rates: list[ChanceRates]) -> None:
    """Simulated rates as points on the curves erf(delta / sqrt 2) ^ rows."""
    deltas = [rate.delta for rate in rates]
    ends = [math.log(delta) for delta in (min(deltas), max(deltas))]
    steps = [i / (CURVE_POINTS - 1) for i in range(CURVE_POINTS)]
    x = [math.exp(ends[0] + (ends[1] - ends[0]) * step) for step in steps]
    marks = iter(styles.MARKS)
    for count in (1, *rates[0].row_view):
        colour = BY_WEIGHT if count == 1 else BY_ROW
        simulated = [rate.row_view.get(count, rate.layer_view) for rate in rates]
        some = [(delta, rate) for delta, rate in zip(deltas, simulated, strict=True) if rate]
        label = "weight" if count == 1 else f"{count} rows"
        panel.plot(x, [math.erf(d / math.sqrt(2)) ** count for d in x], color=colour)
        mark = {"marker": next(marks), "linestyle": "", "markerfacecolor": "white"}
        panel.plot(*zip(*some, strict=True), color=colour, label=label, **mark)
    panel.set(xscale="log", yscale="log", ylim=(1e-6, 1.3), xlabel=r"$\delta$")
    panel.set(title="a random pair passes the test", ylabel="probability")
    panel.annotate(
        r"lines: erf$(\delta/\sqrt{2})^{\mathrm{rows}}$", (0.03, 0.95), xycoords="axes fraction"
    )
    panel.annotate("marks: simulated", (0.03, 0.89), xycoords="axes fraction")
    _delta_axis(panel, deltas, deltas)
    panel.legend(**BELOW, ncols=4)


def _decisions(panel: Any, examined: list[Examined]) -> None:
    """A bar per example and delta, filled by the shares of steps in which the gate projects."""
    deltas = list(examined[0].by_delta)
    for y, example in enumerate(examined):
        for x, treatment in enumerate(example.by_delta.values()):
            left = x - CELL / 2
            for share, colour in (
                (1.0, NO_PROJECTION),
                (treatment.by_row + treatment.by_weight, BY_WEIGHT),
                (treatment.by_row, BY_ROW),
            ):
                panel.barh(y, CELL * share, left=left, height=0.56, color=colour)
    for colour, label in ((BY_ROW, "by row"), (BY_WEIGHT, "as a whole"), (NO_PROJECTION, "not")):
        panel.barh(0, 0, color=colour, label=label)
    panel.set(title="share of steps that the gate projects", xlabel=r"$\delta$")
    panel.set(yticks=range(len(examined)), yticklabels=[example.name for example in examined])
    _delta_axis(panel, range(len(deltas)), deltas)
    panel.set_ylim(len(examined) - 0.4, -0.6)  # the first example is at the top
    panel.set_xlim(-0.6, len(deltas) - 0.4)
    panel.legend(**BELOW, ncols=3)


def _radial(panel: Any, examined: list[Examined]) -> None:
    """The radial share of the steps: from the smallest delta to the largest, and with units."""
    for y, example in enumerate(examined):
        shares = [treatment.radial for treatment in example.by_delta.values()]
        if example.units.projection == "off":
            panel.annotate(
                "no invariant unit", (1e-5, y), ha="center", va="center", color="#777777"
            )
            continue
        panel.plot(shares, [y - 0.13] * len(shares), color=FAINT, linewidth=1.2)
        panel.plot(shares, [y - 0.13] * len(shares), "o", color=INK, markersize=5)
        panel.plot([example.radial_with_units], [y + 0.13], "*", color=BY_ROW, markersize=10)
    panel.plot([], [], "o", color=INK, markersize=5, label=r"gate, every $\delta$")
    panel.plot([], [], "*", color=BY_ROW, markersize=10, label="units of the audit")
    panel.set(xscale="log", xlim=(1e-11, 1), title="radial part of a step")
    panel.set(xlabel=r"mean $|\cos(w, \Delta w)|$ per unit", xticks=(1e-10, 1e-7, 1e-4, 1e-1))
    panel.tick_params(axis="y", labelleft=False)
    panel.legend(**BELOW, ncols=1)


def _delta_axis(panel: Any, positions: Any, deltas: list[float]) -> None:
    panel.set_xticks(list(positions), [f"{delta:g}" for delta in deltas])
    panel.minorticks_off()
