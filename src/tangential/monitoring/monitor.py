"""Norms, effective steps and angles of a model's weights while it trains."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from tangential.backends.watched import Seen
from tangential.invariance.findings import Audit
from tangential.invariance.probe import frozen_norms
from tangential.monitoring.columns import COLUMNS, Values, aggregates, line, published
from tangential.monitoring.motion import ADDED
from tangential.monitoring.samples import Copies, Group, Sample, seen_by
from tangential.monitoring.updates import settings_of
from tangential.projected import Projected

Sink = Callable[[Values, int], Any]

UNITS: Group = {"projection": "row", "row_axis": 0, "row_groups": 1}


class Monitor:
    """Watches an optimizer's steps and tells its sinks how the weights of a model move.

    Where AdamP and SGDP judge a weight, the sums are those that the step takes anyway; elsewhere a
    logged step costs a copy of the weights while it lasts. One transfer to the host a logged step.
    Columns: `tangential.monitoring.columns`; equations and sources: `tangential.monitoring.motion`.

    Args:
        model: Names the weights, in the order of its depth.
        optimizer: Any of torch's kind, or a wrapper (Accelerate's, say) with it as `optimizer`.
        every: Steps from one log to the next, >= 1; the first step is logged.
        sinks: One or more; called with ({"weight/column": value}, step). `wandb.run.log` is one.
        weights: Give a line for every weight, not only "all", "early", "middle" and "late"; a sink
            that has an attribute `weights` decides for itself.
        audit: Of this model: `invariant` says what it proved, and its units are measured where the
            optimizer does not judge.
        step: Number of the next step, where a run goes on.

    Raises:
        ValueError: `every` is no positive integer, or the optimizer has no weight of the model.
        TypeError: there is no optimizer.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> logged = []
    >>> with Monitor(model, optimizer, every=1, sinks=lambda values, step: logged.append(values)):
    ...     model(torch.randn(8, 4)).pow(4).sum().backward()
    ...     optimizer.step()
    >>> logged[0]["all/radial_share"] < 1e-3  # of the update: BatchNorm leaves no radial gradient
    True
    """

    COLUMNS = COLUMNS

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
        optimizer = _unwrapped(optimizer)
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
        if isinstance(self.optimizer, Projected):
            self.optimizer.watch = None
        close(self.sinks)

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
            if p in self.names and p.requires_grad and not (ours and ours.judges(p, group))
        )

    def _see(self, seen: Seen) -> None:
        self.samples += seen_by(seen)

    def _after(self, *_: object) -> None:
        if isinstance(self.optimizer, Projected):
            self.optimizer.watch = None
        if torch.compiler.is_compiling():
            return
        copies, samples, step = self.copies, self.samples, self.step
        self.copies, self.samples, self.step = None, [], step + 1  # whatever a sink raises
        found_inf = getattr(self.optimizer, "found_inf", None)
        if copies and (found_inf is None or not found_inf.item()):  # else there was no step
            groups = {p: g for g in self.optimizer.param_groups for p in g["params"]}
            units = {p: self._units(p, groups[p]) for p in copies.before}
            samples += copies.samples(self.optimizer, groups, units)
            self._tell(samples, groups, step)

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

    def _tell(self, samples: list[Sample], groups: dict[Tensor, Group], step: int) -> None:
        sums = _to_host([sample.sums for sample in samples])
        order = {param: number for number, param in enumerate(self.names)}
        ours = [i for i, sample in enumerate(samples) if sample.param in order]
        ours.sort(key=lambda i: order[samples[i].param])
        lines = {}
        for i in ours:
            sample = samples[i]
            lines[self.names[sample.param]] = self._line(sample, groups[sample.param], sums[i])
        matrices = {self.names[s.param] for s in samples if s.param.dim() > 1}
        values = aggregates([values for name, values in lines.items() if name in matrices])
        frozen = frozen_norms(self.model)
        values["all/frozen_norms"] = float(len(frozen))
        detailed = {f"{name}/{k}": v for name, line in lines.items() for k, v in line.items()}
        detailed |= {f"{name}/frozen": 1.0 for name in frozen}
        for sink in self.sinks:
            wants = getattr(sink, "weights", self.weights)
            sink({**values, **detailed} if wants else dict(values), step)

    def _line(self, sample: Sample, group: Group, sums: list[float]) -> Values:
        param, settings = sample.param, settings_of(self.optimizer, group)
        named = dict(zip(ADDED, sums, strict=True))
        if not (sample.judged or param.dim() < 2 or group.get("projection") == "off"):
            named |= published(named, param.numel())
        values = line(named, float(group["lr"]), settings)
        if self.audit:
            kind = self.audit[self.names[param]].kind
            values["invariant"] = float(kind in ("row", "weight"))
        return values


def _unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer within wrappers, of which Accelerate's is one of torch's kind without hooks."""
    given = type(optimizer).__name__
    while not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        if not hasattr(optimizer, "optimizer"):
            raise TypeError(f"optimizer is a {given}, allowed is a torch.optim.Optimizer")
        optimizer = optimizer.optimizer
    return optimizer


def close(sinks: list[Sink]) -> None:
    """Close the sinks that can be closed, all of them, whatever one raises."""
    with ExitStack() as closing:
        for sink in reversed(sinks):
            closing.callback(getattr(sink, "close", _nothing))


def _nothing() -> None:
    """Close a sink that cannot be closed."""


def _to_host(sums: list[Tensor]) -> list[list[float]]:
    """All sums in one transfer from each device; in one from the only one, usually."""
    found: list[list[float]] = [[] for _ in sums]
    for device in {x.device for x in sums}:
        here = [i for i, x in enumerate(sums) if x.device == device]
        for i, values in zip(here, torch.stack([sums[i] for i in here]).tolist(), strict=True):
            found[i] = values
    return found
