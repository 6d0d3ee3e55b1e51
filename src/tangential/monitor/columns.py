"""The columns that a monitor logs: for each weight, from its sums, and as means over weights."""

import math
from types import SimpleNamespace

from tangential import maths
from tangential.monitor.motion import equilibrium_rad, steps_to_equilibrium
from tangential.monitor.updates import Settings

Values = dict[str, float]

COLUMNS = (
    *("norm", "grad_norm", "update_norm"),  # the update is w+ - w
    "cosine",  # sqrt(elements) |cos(w, g)|, RMS over units: about 1 by chance, 0 if invariant
    "radial_share",  # of the update without decay
    *("effective_step", "angle_rad"),  # RMS over units
    *("growth_step", "growth_memory", "growth_decay"),  # of the squared norm, as shares of it
    *("gate_row", "gate_weight"),  # 1 if the gate fired, or the published gate would have
    *("lr", "equilibrium_rad", "steps_to_equilibrium"),
)
# `maths` on Python's numbers
FLOATS = SimpleNamespace(
    sqrt=math.sqrt, isfinite=math.isfinite, clip=lambda x, **k: max(x, k["min"])
)
BY_DEPTH = ("norm", "effective_step", "angle_rad")
DEPTHS = ("early", "middle", "late")


def published(sums: Values, size: int) -> Values:
    """What the published gate would decide about a weight of `size` elements."""
    by_row = sums["not_orthogonal"] == 0 and sums["units"] < size
    ww, gg, gw = (sums[name] for name in ("ww", "gg", "gw"))
    whole = maths.orthogonal(FLOATS, ww, gg, gw, maths.DELTA / size**0.5, maths.EPS)
    return {"by_row": float(by_row), "by_weight": float(whole and not by_row)}


def weight_values(sums: Values, lr: float, settings: Settings | None) -> Values:
    """The columns of a weight, without those that are undefined or unknown.

    If the weight or its gradient is not finite, NaN is kept, because a diverged run must show it.

    Args:
        sums: The sums by the names in `motion.ADDED`.
        lr: Learning rate of this step; NaN if unknown.
        settings: The settings of the weight's group; None if the optimizer is not known.
    """
    ww, units, fired = sums["ww"], sums["units"], sums["by_row"] + sums["by_weight"] > 0
    rate = lr * settings.decay * (settings.wd_ratio if fired else 1.0) if settings else 0.0
    if settings and settings.coupled:  # decay comes with the gradient, which momentum remembers
        decay = -2 * rate * ww
        sums = {**sums, "growth_decay": decay, "growth_memory": sums["growth_memory"] - decay}
    angle = _root(sums["angle2"], units)
    projected = bool(settings and settings.projects and fired)
    target = equilibrium_rad(rate, settings.beta if settings else 0.0, projected=projected)
    values = {
        "norm": _root(ww, 1),
        "grad_norm": _root(sums["gg"], 1),
        "update_norm": _root(sums["update2"], 1),
        "cosine": _root(sums["cosine2"], sums["with_grad"]),
        "radial_share": _root(sums["radial2"], sums["ee"] if units else 0.0),
        "effective_step": _root(sums["chord2"], units),
        "angle_rad": angle,
        "growth_step": ratio(sums["ee"], ww),
        "growth_memory": ratio(sums["growth_memory"], ww),
        "growth_decay": ratio(sums["growth_decay"], ww),
        "gate_row": float(sums["by_row"] > 0),
        "gate_weight": float(sums["by_weight"] > 0),
        "lr": lr,
        "equilibrium_rad": target,
        "steps_to_equilibrium": steps_to_equilibrium(
            ratio(angle, target), rate, adaptive=bool(settings and settings.adaptive)
        ),
    }
    finite = math.isfinite(ww) and math.isfinite(sums["gg"])
    return {k: x for k, x in values.items() if x == x} if finite else values


def ratio(x: float, y: float) -> float:
    """The quotient x / y; NaN where y is zero."""
    return x / y if y else math.nan


def _root(square: float, share: float) -> float:
    return math.sqrt(max(0.0, square) / share) if share and square == square else math.nan


def aggregates(logged: list[Values]) -> Values:
    """Means over weights: all columns over all weights, and three columns over each third.

    A column that no weight has is left out. `all/memory_share` is the share of momentum's memory in
    the growth of scale-invariant weights; without an audit, of weights on which the gate fires.
    """
    means = {f"all/{name}": _mean(logged, name) for name in COLUMNS}
    invariant = [x for x in logged if x.get("invariant", x["gate_row"] + x["gate_weight"])]
    memory, step = _mean(invariant, "growth_memory"), _mean(invariant, "growth_step")
    if memory is not None and step is not None and memory + step:
        means["all/memory_share"] = memory / (memory + step)
    share, rest = divmod(len(logged), len(DEPTHS))
    for i, depth in enumerate(DEPTHS):  # the earlier parts take the remainder
        begin, end = (k * share + min(k, rest) for k in (i, i + 1))
        means |= {f"{depth}/{name}": _mean(logged[begin:end], name) for name in BY_DEPTH}
    return {name: mean for name, mean in means.items() if mean is not None}


def _mean(logged: list[Values], name: str) -> float | None:
    """Mean of the finite values; NaN if no value is finite, None if there is no value."""
    known = [values[name] for values in logged if name in values]
    finite = [x for x in known if math.isfinite(x)]
    if finite:
        return sum(finite) / len(finite)
    return math.nan if known else None
