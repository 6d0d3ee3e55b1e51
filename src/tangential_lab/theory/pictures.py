"""Still figures and an animation of the toy problems.

matplotlib takes half a second to import, so it is imported where something is drawn. Figures are
made without pyplot and with temporary settings: the user's own settings of matplotlib stay.
"""

from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tangential_lab import styles
from tangential_lab.theory.toys import (
    OPTIMUM_3D,
    START_3D,
    STEPS_2D,
    STEPS_SHOWN,
    Problem,
    ToyRun,
    chart,
    rosenbrock,
)

NAMES = {"2d": "cosine_2d", "3d": "rosenbrock_3d"}
STYLE: Any = styles.MATPLOTLIB | {"axes.titlesize": 11, "font.size": 10}
INK, FAINT = "#222222", "#bbbbbb"
DPI, FRAME_DPI = 160, 72
STEPS_PER_FRAME, FRAME_MS, LAST_FRAME_MS = 5, 50, 3000
LEVELS = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]  # contours of log10 of the loss
SHADES = [str(0.99 - 0.022 * i) for i in range(len(LEVELS) + 1)]  # greys; the valley is light


class Trace(NamedTuple):
    """A line with a dot at its head, and all the points that it will reach: x and y [steps]."""

    line: Any
    head: Any
    x: Any
    y: Any


def toy_files(problem: Problem, folder: Path) -> list[Path]:
    """The files that `draw_toy` writes."""
    suffixes = ("png", "svg", "gif") if problem == "2d" else ("png", "svg")
    return [folder / f"{NAMES[problem]}.{suffix}" for suffix in suffixes]


def draw_toy(problem: Problem, runs: list[ToyRun], folder: Path) -> list[Path]:
    """Draw the runs of a problem into `folder`; return the paths of the files."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    folder.mkdir(parents=True, exist_ok=True)
    rows = [list(row) for _, row in groupby(runs, key=lambda run: run.momentum)]
    png, svg, *gif = paths = toy_files(problem, folder)
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(wspace=0.08)
        figure = Figure(figsize=(12, 4.2 * len(rows)), layout=layout)
        draw_row = _row_2d if problem == "2d" else _row_3d
        traces = [trace for at in range(len(rows)) for trace in draw_row(figure, rows, at)]
        # one legend below all panels; those of the first row name every line
        named = (panel.get_legend_handles_labels() for panel in figure.axes[:3])
        lines = {name: line for pair in named for line, name in zip(*pair, strict=True)}
        figure.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines))
        figure.savefig(png, dpi=DPI)
        figure.savefig(svg, metadata={"Date": None})
        for path in gif:
            _animate(figure, traces, path)
    return paths


def _row_2d(figure: Any, rows: list[list[ToyRun]], at: int) -> list[Trace]:
    """Paths in the plane with the unit circle, norms and losses at one momentum."""
    from matplotlib.patches import Circle

    plane, norm, loss = (figure.add_subplot(len(rows), 3, 3 * at + i) for i in (1, 2, 3))
    momentum = rows[at][0].momentum
    plane.set(title=f"momentum {momentum:g}: path, a dot every 50 steps", aspect="equal")
    plane.set(xlabel="$w_1$", ylabel="$w_2$", adjustable="datalim")
    norm.set(title="norm of w", xlabel="step", ylabel=r"$\|w\|$")
    loss.set(title="loss", xlabel="step", ylabel=r"$(1-\cos)^2$", yscale="log", ylim=(1e-6, 8))
    traces = []
    for run in rows[at]:
        steps, weights = range(STEPS_2D + 1), run.path.weights.numpy()
        traces += [
            _trace(plane, run, *weights.T, marker="o", markersize=3.5, markevery=50),
            _trace(norm, run, steps, run.path.norms.numpy(), label=run.name),
            _trace(loss, run, steps[:-1], run.path.losses.numpy()),
        ]
    plane.add_patch(Circle((0, 0), 1, fill=False, color=FAINT, linewidth=1))
    low = plane.get_ylim()[0]
    plane.plot([0, 0], [0, low], color=INK, linestyle=":", linewidth=1.2)
    plane.annotate("optimum", (0, low), (-4, 3), textcoords="offset points", ha="right")
    return traces


def _row_3d(figure: Any, rows: list[list[ToyRun]], at: int) -> list[Trace]:
    """Paths around the sphere, on its chart, and norms, at one momentum."""
    grid = figure.add_gridspec(len(rows), 3, width_ratios=(1.2, 1.1, 1))
    ball = figure.add_subplot(grid[at, 0], projection="3d")
    plane, norm = (figure.add_subplot(grid[at, i]) for i in (1, 2))
    _ball(ball, rows[at])
    _valley(plane)
    norm.set(title=f"norm of w, momentum {rows[at][0].momentum:g}", xlabel="step")
    norm.set(ylabel=r"$\|w\|$")
    traces = []
    for run in rows[at]:
        traces += [
            _trace(plane, run, *(x.numpy() for x in chart(run.path.weights)), linewidth=1.5),
            _trace(norm, run, range(len(run.path.norms)), run.path.norms.numpy(), label=run.name),
        ]
    _published(norm, rows[at])
    return traces


def _published(norm: Any, runs: list[ToyRun]) -> None:
    """The norms of the paper's figure, as dots."""
    style = {"linestyle": "", "marker": "o", "markerfacecolor": "white", "markersize": 5}
    steps = STEPS_SHOWN["3d"]
    for run in runs:
        if run.published:
            norms = run.published[: len(steps)]
            norm.plot(steps, norms, color=run.optimizer.colour, zorder=4, **style)
    if any(run.published for run in runs):
        norm.plot([], [], color=INK, label="the paper's figure", **style)


def _valley(plane: Any) -> None:
    """The loss as contour lines over the chart, its start and its optimum."""
    psi, phi = torch.meshgrid(
        torch.linspace(-2.4, 1.6, 300), torch.linspace(-0.7, 2.35, 300), indexing="xy"
    )
    loss = rosenbrock(psi, phi).log10()
    plane.contourf(psi, phi, loss, levels=LEVELS, colors=SHADES, extend="both")
    plane.contour(psi, phi, loss, levels=LEVELS, colors="white", linewidths=0.7)
    plane.plot(*START_3D, "s", color=INK, markersize=5, zorder=4)
    plane.plot(*OPTIMUM_3D, "*", color=INK, markersize=11, zorder=4)
    plane.annotate("start", START_3D, (0, 6), textcoords="offset points", ha="center")
    plane.annotate("optimum", OPTIMUM_3D, (-7, -3), textcoords="offset points", ha="right")
    plane.set(title="the same on the unrolled sphere", xlabel=r"$\psi$", ylabel=r"$\varphi$")


def _ball(ball: Any, runs: list[ToyRun]) -> None:
    """The unit sphere, shaded by the loss as the chart is, and the paths around it."""
    longitude, latitude = torch.meshgrid(
        torch.linspace(-torch.pi, torch.pi, 181),
        torch.linspace(-torch.pi / 2, torch.pi / 2, 91),
        indexing="ij",
    )
    flat = latitude.cos()
    globe = torch.stack([flat * longitude.cos(), flat * longitude.sin(), latitude.sin()], -1)
    level = torch.bucketize(rosenbrock(*chart(globe)).log10(), torch.tensor(LEVELS))
    shades = [[SHADES[i] for i in row] for row in level]
    ball.computed_zorder = False  # otherwise the sphere hides lines in front of it
    sides = (x.numpy() for x in globe.unbind(-1))
    ball.plot_surface(*sides, facecolors=shades, rstride=1, cstride=1, shade=False, rasterized=True)
    for run in runs:
        path = run.path.weights.numpy().T
        ball.plot(*path, color=run.optimizer.colour, linewidth=1.5, zorder=5)
    ball.view_init(elev=25, azim=-35)
    ball.set(title="path of w around the unit sphere", xlabel="$w_1$", ylabel="$w_2$")
    ball.set(zlabel="$w_3$", xticks=(-1, 0, 1, 2), yticks=(-1, 0, 1), zticks=(-1, 0, 1))
    limits = (ball.get_xlim(), ball.get_ylim(), ball.get_zlim())
    ball.zaxis.labelpad = -2  # otherwise the label touches the next panel
    ball.set_box_aspect([high - low for low, high in limits], zoom=1.15)


def _trace(axes: Any, run: ToyRun, x: Any, y: Any, **style: Any) -> Trace:
    colour, dashed = run.optimizer.colour, run.optimizer.dashed
    [line] = axes.plot(x, y, color=colour, linestyle="--" if dashed else "-", **style)
    [head] = axes.plot(x[-1:], y[-1:], "o", color=colour, markersize=6)
    return Trace(line, head, x, y)


def _animate(figure: Any, traces: list[Trace], path: Path) -> None:
    """Write a GIF in which the lines grow.

    The background is drawn once and the lines over it in every frame: matplotlib.animation draws
    the whole figure for every frame, which takes 50 times as long.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(FRAME_DPI)
    canvas = FigureCanvasAgg(figure)
    for line, head, _, _ in traces:
        line.set_animated(True)
        head.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    images = []
    for step in range(0, STEPS_2D + 1, STEPS_PER_FRAME):
        canvas.restore_region(still)
        for line, head, x, y in traces:
            line.set_data(x[: step + 1], y[: step + 1])
            head.set_data(x[: step + 1][-1:], y[: step + 1][-1:])
            line.axes.draw_artist(line)
            line.axes.draw_artist(head)
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    colours = images[-1].quantize(256, Image.Quantize.FASTOCTREE)
    frames = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)
