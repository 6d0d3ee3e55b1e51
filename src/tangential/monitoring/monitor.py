"""Norms, effective steps and angles of a model's weights while it trains."""

import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from tangential import maths
from tangential.backends.watched import Seen
from tangential.invariance.findings import Audit
from tangential.invariance.probe import frozen_norms
from tangential.monitoring.motion import ADDED, DELTA, EPS, equilibrium_rad, steps_to_equilibrium
from tangential.monitoring.samples import Copies, Group, Sample, seen_by
from tangential.monitoring.updates import Settings, settings_of
from tangential.projected import Projected

Values = dict[str, float]
Sink = Callable[[Values, int], Any]

UNITS: Group = {"projection": "row", "row_axis": 0, "row_groups": 1}
# `maths` on Python's numbers
FLOATS = SimpleNamespace(
    sqrt=math.sqrt, isfinite=math.isfinite, clip=lambda x, **k: max(x, k["min"])
)
BY_DEPTH = ("norm", "effective_step", "angle_rad")
DEPTHS = ("early", "middle", "late")


class Monitor:
    """Watches an optimizer's steps and tells its sinks how the weights of a model move.

    Where AdamP and SGDP judge a weight, the sums are those that the step takes anyway; elsewhere a
    logged step costs a copy of the weights while it lasts. One transfer to the host a logged step.
    Columns: `Monitor.COLUMNS`; source of the equations: `tangential.monitoring.motion`.

    Args:
        model: Names the weights, in the order of its depth.
        optimizer: Any of torch's kind, or a wrapper (Accelerate's, say) with it as `optimizer`.
        every: Steps from one log to the next, >= 1; the first step is logged.
        sinks: One or more; called with ({"weight/column": value}, step). `wandb.run.log` is one.
        weights: Give a line for every weight, not only "all", "early", "middle" and "late"; a sink
            that has an attribute `weights` decides for itself.
        audit: Of this model: its units are measured, and `invariant` says what it proved.
        step: Number of the next step, where a run goes on.

    Raises:
        ValueError: `every` is no positive integer, or the optimizer has no weight of the model.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> logged = []
    >>> with Monitor(model, optimizer, every=1, sinks=lambda values, step: logged.append(values)):
    ...     model(torch.randn(8, 4)).pow(4).sum().backward()
    ...     optimizer.step()
    >>> logged[0]["all/radial_share"] < 1e-3  # of the update: BatchNorm leaves no radial gradient
    True
    """

    COLUMNS = (
        *("norm", "grad_norm", "update_norm"),  # the update is w+ - w
        "cosine",  # sqrt(elements) |cos(w, g)|, RMS over units: 1 by chance, 0 by invariance
        "radial_share",  # of the update without decay
        *("effective_step", "angle_rad"),  # RMS over units
        *("growth_step", "growth_memory", "growth_decay"),  # of the squared norm, as its share
        *("gate_row", "gate_weight"),  # 1 where the gate fired, or the published one would have
        *("lr", "equilibrium_rad", "steps_to_equilibrium"),
    )

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        every: int = 50,
        sinks: Sink | Iterable[Sink] = (),
        *,
        weights: bool = False,
        audit: Audit | None = None,
        step: int = 0,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every is {every!r}, allowed is an integer of 1 or more")
        while not isinstance(optimizer, Optimizer) and hasattr(optimizer, "optimizer"):
            optimizer = optimizer.optimizer
        self.model, self.optimizer, self.every, self.step = model, optimizer, every, step
        self.sinks = [sinks] if callable(sinks) else list(sinks)
        self.weights, self.audit = weights, audit
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
        if not any(p in self.names for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("the optimizer has no weight of the model, allowed is one that has")
        self.samples: list[Sample] = []
        self.copies: Copies | None = None
        self.handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the optimizer go, and close the sinks that can be closed."""
        for handle in self.handles:
            handle.remove()
        for sink in self.sinks:
            getattr(sink, "close", _nothing)()

    # ---- around a step

    def _before(self, *_: object) -> None:
        self.samples, self.copies = [], None
        if self.step % self.every or torch.compiler.is_compiling():
            return
        ours = self.optimizer if isinstance(self.optimizer, Projected) else None
        if ours:
            ours.watch = self._see
        self.copies = Copies(
            p
            for group in self.optimizer.param_groups
            for p in group["params"]
            if p in self.names and not (ours and ours.judges(p, group))
        )

    def _see(self, seen: Seen) -> None:
        self.samples += seen_by(seen)

    def _after(self, *_: object) -> None:
        if isinstance(self.optimizer, Projected):
            self.optimizer.watch = None
        if self.copies is None:
            self.step += not torch.compiler.is_compiling()
            return
        found_inf = getattr(self.optimizer, "found_inf", None)
        if found_inf is None or not found_inf.item():  # else there was no step
            groups = {p: g for g in self.optimizer.param_groups for p in g["params"]}
            units = {p: self._units(p, groups[p]) for p in self.copies.before}
            self.samples += self.copies.samples(self.optimizer, groups, units)
            self._tell(groups)
            self.step += 1
        self.samples, self.copies = [], None

    def _units(self, param: Tensor, group: Group) -> Group:
        """What of a weight is measured as one."""
        line = self.audit[self.names[param]] if self.audit else None
        if line and line.kind in ("row", "weight"):
            return line.units._asdict()
        if isinstance(self.optimizer, Projected):
            by_row = group["projection"] != "weight"
            return {**group, "projection": "row" if by_row else "weight"}
        return UNITS

    # ---- what the samples say

    def _tell(self, groups: dict[Tensor, Group]) -> None:
        sums = _to_host([sample.sums for sample in self.samples])
        order = {param: number for number, param in enumerate(self.names)}
        ours = [i for i, sample in enumerate(self.samples) if sample.param in order]
        ours.sort(key=lambda i: order[self.samples[i].param])
        lines = {}
        for i in ours:
            sample = self.samples[i]
            lines[self.names[sample.param]] = self._line(sample, groups[sample.param], sums[i])
        matrices = {self.names[s.param] for s in self.samples if s.param.dim() > 1}
        values = aggregates([values for name, values in lines.items() if name in matrices])
        frozen = frozen_norms(self.model)
        values["all/frozen_norms"] = float(len(frozen))
        detailed = {f"{name}/{k}": v for name, line in lines.items() for k, v in line.items()}
        detailed |= {f"{name}/frozen": 1.0 for name in frozen}
        for sink in self.sinks:
            wants = getattr(sink, "weights", self.weights)
            sink({**values, **detailed} if wants else dict(values), self.step)

    def _line(self, sample: Sample, group: Group, sums: list[float]) -> Values:
        param, settings = sample.param, settings_of(self.optimizer, group)
        named = dict(zip(ADDED, sums, strict=True))
        if not (sample.judged or param.dim() < 2 or group.get("projection") == "off"):
            named |= _published(named, param)
        values = line(named, float(group["lr"]), settings)
        if self.audit:
            kind = self.audit[self.names[param]].kind
            values["invariant"] = float(kind in ("row", "weight"))
        return values


def _nothing() -> None:
    """Close a sink that cannot be closed."""


def _published(sums: Values, param: Tensor) -> Values:
    """What the published gate would have decided."""
    by_row = sums["failing"] == 0 and sums["units"] < param.numel()
    ww, gg, gw = (sums[name] for name in ("ww", "gg", "gw"))
    whole = maths.orthogonal(FLOATS, ww, gg, gw, DELTA / param.numel() ** 0.5, EPS)
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
    result = {f"all/{name}": _mean(lines, name) for name in Monitor.COLUMNS}
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


def _to_host(sums: list[Tensor]) -> list[list[float]]:
    """All sums in one transfer from each device; in one from the only one, usually."""
    found: list[list[float]] = [[] for _ in sums]
    for device in {x.device for x in sums}:
        here = [i for i, x in enumerate(sums) if x.device == device]
        for i, values in zip(here, torch.stack([sums[i] for i in here]).tolist(), strict=True):
            found[i] = values
    return found
