"""Measures norms, effective steps and angles of a model's weights during training."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer

from tangential.backends import StepSums, Units, local, with_watcher, without_watcher
from tangential.invariance import Audit, frozen_norms
from tangential.monitor.columns import COLUMNS, Values, aggregates, published, weight_values
from tangential.monitor.labels import audit_lines, labels
from tangential.monitor.motion import ADDED
from tangential.monitor.samples import (
    Sample,
    Weight,
    on_host,
    samples_of,
    samples_of_copies,
    unit_values,
)
from tangential.monitor.sinks.rows import step_number
from tangential.monitor.sinks.user_sinks import Sink, as_sinks, call, close, warn_if_shared
from tangential.monitor.updates import Group, settings_of
from tangential.names import unwrapped, unwrapped_name
from tangential.optim import Projected
from tangential.units import layout_of

open_monitors: "WeakSet[Monitor]" = WeakSet()


class Monitor:
    """Measures how an optimizer's steps move the weights of a model, and logs it to sinks.

    For weights that AdamP and SGDP may project, the step computes the sums anyway. Other weights
    are copied at the start of a logged step. A logged step makes one transfer to the host. Columns:
    `tangential.monitor.columns`; equations: `tangential.monitor.motion`.

    Args:
        model: Gives the names and the order of the weights. Names leave out torch.compile,
            DataParallel and other wrappers. Weights that only the optimizer has are left out.
        optimizer: Any torch optimizer, or a wrapper of one with the attribute `optimizer`.
        every: Steps from one log to the next, >= 1; the first step is logged.
        sinks: One or several callables `(values, step)`, or a W&B run; values are named
            "weight/column", and undefined values are left out.
        weights: Log values for every weight, not only the means "all", "early", "middle" and
            "late"; a sink's attribute `weights` overrides it.
        audit: Audit of this model or of a module in it: tells which units are scale-invariant.
        step: Number of the next step, >= 0, or a function that returns it before every step.

    Raises:
        ValueError: a number is out of range, or optimizer or audit do not fit the model.
        TypeError: `optimizer`, `audit` or a sink is of another type.

    >>> _ = torch.manual_seed(0)
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
        step: int | Callable[[], int] = 0,
    ) -> None:
        check(every, audit)
        optimizer = _unwrapped(optimizer)
        self.model, self.optimizer, self.every = unwrapped(model), optimizer, every
        self.next_step, self.step = (step, 0) if callable(step) else (None, step)
        self.sinks, self.weights = as_sinks(sinks), weights
        if not shares_weights(model, optimizer):
            raise ValueError("optimizer has no weight of the model: pass the one that trains it")
        trained = (p for group in optimizer.param_groups for p in group["params"])
        self.lines = audit_lines(self.model, trained, audit) if audit else {}
        self._forget()
        warn_if_shared(self.sinks, open_monitors)
        open_monitors.add(self)
        self.handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach from the optimizer, and close the sinks that have a `close`."""
        for handle in self.handles:
            handle.remove()
        self._stop_watching()
        self._forget()
        open_monitors.discard(self)
        close(self.sinks)

    @property
    def step(self) -> int:
        """Number of the next step."""
        return self._step

    @step.setter
    def step(self, step: Any) -> None:
        self._step = step_number(step)

    # ---- around a step

    def _forget(self) -> None:
        """Keep no weight from one step to the next: the model or the optimizer may drop it."""
        self.watched: dict[Tensor, Weight] = {}
        self.samples: list[Sample] = []
        self.copies: dict[Tensor, Tensor] | None = None  # no copies: this step is not logged
        self.in_step = False

    def _before(self, *_: object) -> None:
        if torch.compiler.is_compiling():
            return
        self._stop_watching()  # the last step may have raised
        self._forget()
        self.in_step = True
        if self.next_step is not None:
            self.step = self.next_step()
        if self.step % self.every:
            return
        groups = {p: g for g in self.optimizer.param_groups for p in g["params"]}
        names = {p: name for p, name in labels(self.model).items() if p in groups}
        self.watched = {p: self._weight(name, p, groups[p]) for p, name in names.items()}
        ours = self.optimizer if isinstance(self.optimizer, Projected) else None
        if ours:
            ours.watch = with_watcher(ours.watch, self._add_samples)
        self.copies = {
            p: local(p.detach()).clone()
            for p, weight in self.watched.items()
            if p.requires_grad and not is_lazy(p) and not (ours and ours.judges(p, weight.group))
        }

    def _weight(self, label: str, param: Tensor, group: Group) -> Weight:
        """A weight with the rows of it that are measured as one vector."""
        line = self.lines.get(label)
        proved = line is not None and line.kind in ("row", "weight")
        return Weight(label, group, line.units if line and proved else _units(param, group))

    def _add_samples(self, sums: StepSums) -> None:
        self.samples += [sample for sample in samples_of(sums) if sample.param in self.watched]

    def _stop_watching(self) -> None:
        if isinstance(self.optimizer, Projected):
            self.optimizer.watch = without_watcher(self.optimizer.watch, self._add_samples)

    def _after(self, *_: object) -> None:
        if torch.compiler.is_compiling() or not self.in_step:
            return  # torch runs hooks twice if a `step` calls that of its base class
        self._stop_watching()
        watched, copies, samples, step = self.watched, self.copies, self.samples, self.step
        self._forget()
        self.step = step + 1  # even if a sink raises
        if copies is None:
            return
        found_inf = getattr(self.optimizer, "found_inf", None)
        if found_inf is None or not found_inf.item():  # else GradScaler skipped the step
            samples += samples_of_copies(self.optimizer, copies, watched)
            self._log(samples, watched, step)

    # ---- a log

    def _log(self, samples: list[Sample], watched: dict[Tensor, Weight], step: int) -> None:
        measured = {sample.param: (sample, sums) for sample, sums in on_host(samples)}
        weights = ((p, weight) for p, weight in watched.items() if p in measured)
        logged = {p: self._values(*measured[p], weight) for p, weight in weights}  # in model order
        frozen = [unwrapped_name(name) for name in frozen_norms(self.model)]
        values = aggregates([x for param, x in logged.items() if param.dim() > 1])
        values["all/frozen_norms"] = float(len(frozen))
        detailed = {f"{watched[p].label}/{k}": v for p, x in logged.items() for k, v in x.items()}
        detailed |= {f"{name}/frozen": 1.0 for name in frozen}
        units = partial(unit_values, samples, watched)
        call(self.sinks, values, detailed, units, step, self.weights)

    def _values(self, sample: Sample, sums: list[float], weight: Weight) -> Values:
        param, group = sample.param, weight.group
        named = dict(zip(ADDED, sums, strict=True))
        if not (sample.judged or param.dim() < 2 or group.get("projection") == "off"):
            named |= published(named, param.numel())
        lr = math.nan if group.get("lr") is None else float(group["lr"])  # some have no lr
        values = weight_values(named, lr, settings_of(self.optimizer, group))
        if line := self.lines.get(weight.label):
            values["invariant"] = float(line.kind in ("row", "weight"))
        return values


def shares_weights(model: nn.Module, optimizer: Any) -> bool:
    """Whether an optimizer has a weight of a model."""
    params = set(model.parameters())
    return any(p in params for group in optimizer.param_groups for p in group["params"])


def check(every: Any, audit: Any) -> None:
    """Check the type and range of a monitor's arguments."""
    if not isinstance(every, Integral) or every < 1:  # NumPy's integers are Integral
        raise ValueError(f"every must be an integer >= 1, got {every!r}")
    if not (audit is None or isinstance(audit, Audit)):
        raise TypeError(
            f"audit must be what tangential.audit(model, batches) returns, got {audit!r:.80}"
        )


def _unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer inside wrappers; Accelerate's wrapper is an Optimizer, but has no hooks."""
    given = type(optimizer).__name__
    while not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        if not hasattr(optimizer, "optimizer"):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got a {given}")
        optimizer = optimizer.optimizer
    return optimizer


def _units(param: Tensor, group: Group) -> Units:
    """The units that a group's options name; rows, if they have another meaning there.

    The groups of AdamP and SGDP have these options, and those of any optimizer may have them.
    """
    projection = "weight" if group.get("projection") == "weight" else "row"
    units = Units(projection, group.get("row_axis", 0), group.get("row_groups", 1))
    try:
        if not is_lazy(param):
            layout_of(tuple(param.shape), units)
    except (TypeError, ValueError):
        return Units("row")
    return units
