"""Draw the pictures of the pages about ideas, docs/pictures/*.svg, as the laboratory draws."""

import math
from collections.abc import Callable
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tangential import SGDP, AdamP, Monitor, audit, project
from tangential.monitor import Run, load
from tangential.monitor.sinks import memory
from tangential.radial import brake, fixed_norm
from tangential_lab import styles
from tangential_lab.reports import write_runs
from tangential_lab.theory.claims import Simulation, Step, adamp, adamw, angle_rad, take_steps
from tangential_lab.training import OPTIMIZERS

STYLE: Any = styles.MATPLOTLIB
FOLDER = Path(__file__).parent / "pictures"
COLOURS = {name: optimizer.colour for name, optimizer in OPTIMIZERS.items()}
INK, FAINT, UNITS = "#222222", "#bbbbbb", ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
PLAIN, PROJECTED, MATCHED = COLOURS["adamw"], COLOURS["adamp"], COLOURS["adamp-matched"]


def projection(figure: Figure) -> None:
    """One step of a weight with and without the radial part of the update."""
    axes = figure.add_subplot()
    axes.set(aspect="equal", xlim=(-0.15, 2.3), ylim=(-0.1, 1.15))
    axes.set_axis_off()
    w, step = torch.tensor([1.0, 1.0]) / 2**0.5, torch.tensor([0.95, -0.05])
    tangent = step - (step @ w) * w
    arc = torch.linspace(-0.05, 1.62, 60)
    axes.plot(arc.cos(), arc.sin(), color=FAINT, linewidth=1)
    _arrow(axes, torch.zeros(2), w, INK, "w", (-14, -2))
    _arrow(axes, w, step, PLAIN, r"plain step $-\eta u$", (-30, 8))
    _arrow(axes, w, tangent, PROJECTED, r"projected step $-\eta\,\Pi_w(u)$", (-46, -62))
    ends = torch.stack([w + step, w + tangent])
    axes.plot(*ends.T, linestyle=":", color=INK, linewidth=1.2)
    text: Any = {"textcoords": "offset points", "fontsize": 9}
    middle, end = ends.mean(0), (float(arc[-1].cos()), float(arc[-1].sin()))
    radial = "radial part:\nmakes w longer,\nturns nothing"
    axes.annotate(radial, (float(middle[0]), float(middle[1])), (8, -30), **text)
    axes.annotate("‖w‖ = 1", end, (-8, 8), color="#777777", **text)


def _arrow(axes: Any, start: Tensor, by: Tensor, colour: str, label: str, shift: Any) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (start + by).tolist(), start.tolist(), arrowprops=style)
    axes.annotate(
        label, (start + 0.5 * by).tolist(), shift, textcoords="offset points", color=colour
    )


def gate(figure: Figure) -> None:
    """The statistic of the gate for random pairs, and what its threshold lets through by chance."""
    density, chance = figure.subplots(1, 2)
    x = torch.linspace(-4, 4, 400)
    height = (-0.5 * x.square()).exp() / math.sqrt(2 * math.pi)
    density.plot(x, height, color=INK)
    inside = x.abs() <= 0.1
    density.fill_between(x[inside], height[inside], color=PROJECTED)
    line = {"arrowstyle": "-", "color": PROJECTED}
    style = {"textcoords": "offset points", "arrowprops": line, "color": PROJECTED}
    density.annotate("the gate fires: 8 %", (0.1, 0.2), (30, 60), **style)
    density.set(
        title="a weight that is not scale-invariant", xlabel="√size · cos(w, g)", ylabel="density"
    )
    deltas = torch.logspace(-2, 0, 100)
    for rows, colour in ((1, PROJECTED), (2, UNITS[0]), (8, UNITS[2])):
        label = "whole weight" if rows == 1 else f"all of {rows} rows"
        chance.plot(deltas, torch.erf(deltas / 2**0.5) ** rows, color=colour, label=label)
    chance.axvline(0.1, color=FAINT, linestyle=":")
    chance.set(
        xscale="log",
        yscale="log",
        ylim=(1e-9, 1.5),
        xlabel="δ",
        title="probability of firing by chance",
    )
    chance.legend()


def decay(figure: Figure) -> None:
    """Angles per step of AdamW and AdamP on scale-invariant rows, towards their equilibria."""
    axes = figure.add_subplot()
    runs: dict[str, tuple[str, Callable[..., Any], float]] = {
        "AdamW": (PLAIN, adamw, 1 / 19),
        "AdamP, wd_ratio 0.1": (PROJECTED, adamp, 0.1),
        'AdamP, wd_ratio "matched"': (MATCHED, adamp, 1 / 19),
    }
    for label, (colour, build, share) in runs.items():
        run = Simulation((32, 64), lr=0.1, decay=0.1, wd_ratio=share, steps=3000)
        angles = torch.tensor([_rms_angle(step) for step in take_steps(build, run)])
        axes.plot(
            angles.unfold(0, 25, 25).mean(1).repeat_interleave(25),
            color=colour,
            label=label,
            linewidth=1.5,
        )
        level = math.sqrt(2 * run.lr * run.decay * share)
        axes.axhline(level, color=colour, linestyle=":", linewidth=1.2)
    axes.set(
        xlabel="step",
        ylabel="angle per step, rad",
        ylim=(0, 0.06),
        title="angle per step; dotted: the equilibrium",
    )
    axes.legend(loc="lower right")


def _rms_angle(step: Step) -> float:
    return float(angle_rad(step.before, step.weight.detach()).square().mean().sqrt())


def units(figure: Figure) -> None:
    """Which elements of a matrix form one unit, for four settings."""
    rows, columns = 8, 6
    panels = {
        "rows\nrow_axis=0": [[i] * columns for i in range(rows)],
        "groups or heads\nrow_groups=4": [[i // 4] * columns for i in range(rows)],
        "transposed\nrow_axis=1": [list(range(columns))] * rows,
        'whole weight\nprojection="weight"': [[0] * columns] * rows,
    }
    for axes, (title, of) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        for i in range(rows):
            for j in range(columns):
                axes.add_patch(_cell(i, j, UNITS[of[i][j] % 4]))
        axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()


def _cell(i: int, j: int, colour: str) -> Any:
    return Rectangle((j + 0.06, i + 0.06), 0.88, 0.88, color=colour)


def low_precision(figure: Figure) -> None:
    """The path of one weight over steps of 1e-3 against a constant gradient."""
    axes = figure.add_subplot()
    runs = {
        "float32": (INK, torch.float32, None),
        "bfloat16, to nearest": (FAINT, torch.bfloat16, None),
        'bfloat16, "stochastic"': (UNITS[0], torch.bfloat16, "stochastic"),
        'bfloat16, "kahan"': (UNITS[1], torch.bfloat16, "kahan"),
    }
    for label, (colour, dtype, rounding) in runs.items():
        weight = nn.Parameter(torch.full((1, 1), 2.0, dtype=dtype))
        weight.grad = torch.ones_like(weight)
        wide = {"low_precision": rounding, "state_dtype": torch.float32}
        optimizer = AdamP([weight], lr=1e-3, projection="off", **wide)
        path = []
        for _ in range(120):
            path.append(float(weight.detach()))
            optimizer.step()
        axes.plot(path, color=colour, label=label, linewidth=1.5)
    axes.set(xlabel="step", ylabel="weight", title="one weight, steps of 0.001")
    axes.legend(loc="lower left")


def radial_rules(figure: Figure) -> None:
    """Norms of scale-invariant rows under Adam with some rules for the radial part."""
    axes = figure.add_subplot()
    rules: dict[str, Any] = {
        "remove (AdamP)": "remove",
        "brake(outward=0.5)": brake(outward=0.5),
        "fixed_norm": fixed_norm(),
    }
    run = Simulation((16, 64), lr=0.02, decay=0.0, steps=300)
    _draw_norms(axes, "Adam", INK, lambda w, s: AdamW([w], s.lr, weight_decay=0), run)
    for colour, (label, rule) in zip(UNITS, rules.items(), strict=False):
        build = lambda w, s, rule=rule: project(
            torch.optim.Adam([w], s.lr), radial=rule, projection="row"
        )
        _draw_norms(axes, label, colour, build, run)
    axes.set(xlabel="step", ylabel="mean norm of a row", title="without weight decay")
    axes.legend()


def _draw_norms(axes: Any, label: str, colour: str, build: Any, run: Simulation) -> None:
    norms = [float(step.weight.detach().norm(dim=1).mean()) for step in take_steps(build, run)]
    axes.plot(norms, color=colour, label=label)


def monitored_run(build: Callable[..., Optimizer]) -> Run:
    """The log of 300 steps of a small net with BatchNorm on random data."""
    torch.manual_seed(0)
    layers = [[nn.Linear(n, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()] for n in (32, 64)]
    model = nn.Sequential(*layers[0], *layers[1], nn.Linear(64, 2))
    inputs = torch.randn(512, 32)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).long()
    optimizer = build(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    found, log = audit(model, inputs.split(64)), memory()
    with Monitor(model, optimizer, every=5, sinks=[log], audit=found):
        for _ in range(300):
            batch = torch.randint(512, (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    return load(log)


def draw_monitored_runs() -> None:
    """The picture of `tangential plot` for SGD and SGDP."""
    runs = {"SGD": monitored_run(torch.optim.SGD), "SGDP": monitored_run(SGDP)}
    with TemporaryDirectory() as folder:
        files = {path.name: path for path in write_runs(runs, Path(folder))}
        copy(files["training.svg"], FOLDER / "monitored_runs.svg")


PICTURES: dict[Callable[[Figure], None], tuple[float, float]] = {
    projection: (6, 3.2),
    gate: (9, 3.4),
    decay: (7, 3.6),
    units: (7, 2.6),
    low_precision: (7, 3.4),
    radial_rules: (7, 3.4),
}


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for draw, size in PICTURES.items():
        torch.manual_seed(0)
        with rc_context(STYLE):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            figure.savefig(FOLDER / f"{draw.__name__}.svg", metadata={"Date": None})
    draw_monitored_runs()


if __name__ == "__main__":
    main()
