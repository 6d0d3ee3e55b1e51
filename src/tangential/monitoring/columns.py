"""The monitor's columns: what the sums of a weight say, and what many weights say together."""

import math
from types import SimpleNamespace

from tangential import maths
from tangential.monitoring.motion import DELTA, EPS, equilibrium_rad, steps_to_equilibrium
from tangential.monitoring.updates import Settings

Values = dict[str, float]

COLUMNS = (
    *("norm", "grad_norm", "update_norm"),  # the update is w+ - w
    "cosine",  # sqrt(elements) |cos(w, g)|, RMS over units: 1 by chance, 0 by invariance
    "radial_share",  # of the update without decay
    *("effective_step", "angle_rad"),  # RMS over units
    *("growth_step", "growth_memory", "growth_decay"),  # of the squared norm, as its share
    *("gate_row", "gate_weight"),  # 1 where the gate fired, or the published one would have
    *("lr", "equilibrium_rad", "steps_to_equilibrium"),
)
# `maths` on Python's numbers
FLOATS = SimpleNamespace(
    sqrt=math.sqrt, isfinite=math.isfinite, clip=lambda x, **k: max(x, k["min"])
)
BY_DEPTH = ("norm", "effective_step", "angle_rad")
DEPTHS = ("early", "middle", "late")


def published(sums: Values, size: int) -> Values:
    """What the published gate would have decided about a weight of `size` elements."""
    by_row = sums["failing"] == 0 and sums["units"] < size
    ww, gg, gw = (sums[name] for name in ("ww", "gg", "gw"))
    whole = maths.orthogonal(FLOATS, ww, gg, gw, DELTA / size**0.5, EPS)
    return {"by_row": float(by_row), "by_weight": float(whole and not by_row)}


def line(sums: Values, lr: float, settings: Settings | None) -> Values:
    """The columns of a weight.

    Args:
        sums: By the names in `motion.ADDED`.
        lr: Of this step.
        settings: Of the weight's group, where the optimizer is known.
    """
    ww, units, fired = sums["ww"], sums["units"], sums["by_row"] + sums["by_weight"] > 0
    ratio = settings.wd_ratio if settings and fired else 1.0
    rate = lr * settings.decay * ratio if settings else 0.0
    if settings and settings.coupled:  # a gradient's part, which the momentum remembers
        decay = -2 * rate * ww
        sums = {**sums, "growth_decay": decay, "growth_memory": sums["growth_memory"] - decay}
    angle = _root(sums["angle2"], units)
    target = math.nan
    if settings:
        projected = settings.projects and fired
        target = equilibrium_rad(rate, settings.beta, projected=projected)
    return {
        "norm": _root(ww, 1),
        "grad_norm": _root(sums["gg"], 1),
        "update_norm": _root(sums["update2"], 1),
        "cosine": _root(sums["cosine2"], sums["with_grad"]),
        "radial_share": _root(sums["radial2"], sums["ee"] if units else 0.0),
        "effective_step": _root(sums["chord2"], units),
        "angle_rad": angle,
        "growth_step": _ratio(sums["ee"], ww),
        "growth_memory": _ratio(sums["growth_memory"], ww),
        "growth_decay": _ratio(sums["growth_decay"], ww),
        "gate_row": float(sums["by_row"] > 0),
        "gate_weight": float(sums["by_weight"] > 0),
        "lr": lr,
        "equilibrium_rad": target,
        "steps_to_equilibrium": steps_to_equilibrium(
            _ratio(angle, target), rate, adaptive=bool(settings and settings.adaptive)
        ),
    }


def _ratio(x: float, y: float) -> float:
    return x / y if y else math.nan


def _root(square: float, share: float) -> float:
    return math.sqrt(max(0.0, square) / share) if share and square == square else math.nan


def aggregates(lines: list[Values]) -> Values:
    """Means over weights: every column of all, three of the early, middle and late ones.

    `all/memory_share` is the memory's share of what lengthens the weights that are scale-invariant:
    by the audit, or, without one, where the gate fires.
    """
    result = {f"all/{name}": _mean(lines, name) for name in COLUMNS}
    fired = [v for v in lines if v.get("invariant", v["gate_row"] + v["gate_weight"])]
    memory, step = _mean(fired, "growth_memory"), _mean(fired, "growth_step")
    result["all/memory_share"] = _ratio(memory, memory + step)
    third = max(1, math.ceil(len(lines) / 3))
    for number, depth in enumerate(DEPTHS):
        part = lines[number * third : (number + 1) * third]
        result |= {f"{depth}/{name}": _mean(part, name) for name in BY_DEPTH}
    return result


def _mean(lines: list[Values], name: str) -> float:
    known = [values[name] for values in lines if math.isfinite(values[name])]
    return sum(known) / len(known) if known else math.nan
