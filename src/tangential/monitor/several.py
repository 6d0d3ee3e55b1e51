"""The monitors of a run with one or more optimizers, which share sinks and the step number."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import nn

from tangential.invariance import Audit
from tangential.monitor.columns import Values
from tangential.monitor.monitor import Monitor, check, shares_weights
from tangential.monitor.sinks.rows import step_number
from tangential.monitor.sinks.user_sinks import Sink, as_sinks, close


class SharedSink(NamedTuple):
    """A sink without `close` for one of several monitors, which all log under the trainer's step.

    Optimizers have taken different numbers of steps; W&B and files need numbers that never fall.
    """

    sink: Sink
    label: str
    weights: bool
    now: Callable[[], int]

    def __call__(self, values: Values, _: int) -> None:
        """Call the sink."""
        self.sink(self._labelled(values), step_number(self.now()))

    @property
    def log_units(self) -> Callable[[dict[str, Any], int], None] | None:
        """The sink's own `log_units`, if it has one."""
        log = getattr(self.sink, "log_units", None)
        return log and (lambda units, _: log(self._labelled(units), step_number(self.now())))

    def _labelled(self, values: dict[str, Any]) -> dict[str, Any]:
        return {self.label + name: value for name, value in values.items()}


class Monitors:
    """One monitor for each optimizer of a run, and the sinks that they share; see `Monitor`."""

    def __init__(
        self, every: int, sinks: Sink | Iterable[Sink], weights: bool, audit: Audit | None
    ) -> None:
        check(every, audit)
        self.every, self.weights, self.audit = every, weights, audit
        self.sinks = as_sinks(sinks)
        self.attached: list[Monitor | None] = []
        self.steps_before: list[int] = []  # taken by each optimizer without these monitors

    def steps(self) -> list[int]:
        """How many steps each optimizer has taken; `every` counts by them."""
        pairs = zip(self.attached, self.steps_before, strict=False)
        return [monitor.step if monitor else step for monitor, step in pairs] or self.steps_before

    def attach(
        self,
        model: nn.Module,
        optimizers: list[Any],
        steps_before: list[int],
        sinks: list[Sink],
        now: Callable[[], int],
    ) -> None:
        """Attach a monitor to every optimizer, and detach the monitors of an earlier run.

        If there are several optimizers, those without a weight of the model are left out.

        Args:
            model: The model.
            optimizers: Without Accelerate's wrapper.
            steps_before: Steps that each has taken; if unknown, we assume equal numbers.
            sinks: The sinks that are called in this process.
            now: Returns the trainer's step number.
        """
        self.detach()
        if len(steps_before) != len(optimizers):
            steps_before = [now() // len(optimizers)] * len(optimizers)
        self.steps_before = steps_before
        shares = [shares_weights(model, optimizer) for optimizer in optimizers]
        for i, label in enumerate(labels(optimizers)):
            monitor = None
            if shares[i] or not any(shares):  # if none has a weight, the monitor raises
                wants = [getattr(sink, "weights", self.weights) for sink in sinks]
                shared = [SharedSink(s, label, w, now) for s, w in zip(sinks, wants, strict=True)]
                start = {"audit": self.audit, "step": steps_before[i]}
                monitor = Monitor(model, optimizers[i], self.every, shared, **start)
            self.attached.append(monitor)

    def detach(self) -> None:
        """Detach from the optimizers."""
        self.steps_before = self.steps()
        for monitor in self.attached:
            if monitor:
                monitor.close()
        self.attached = []

    def close(self) -> None:
        """Detach from the optimizers, and close the sinks that have a `close`."""
        self.detach()
        close(self.sinks)


def labels(optimizers: list[Any]) -> list[str]:
    """The prefix of each optimizer's labels; empty if there is only one optimizer.

    As in Lightning's LearningRateMonitor: the class, with a number from its second optimizer on.

    >>> import torch
    >>> labels([torch.optim.SGD([torch.zeros(2)], lr=0.1) for _ in range(2)])
    ['SGD/', 'SGD-1/']
    """
    if len(optimizers) == 1:
        return [""]
    kinds = [type(optimizer).__name__ for optimizer in optimizers]
    numbers = [kinds[:i].count(kind) for i, kind in enumerate(kinds)]
    return [f"{kind}-{n}/" if n else f"{kind}/" for kind, n in zip(kinds, numbers, strict=True)]


def finite_only(sink: Sink) -> Sink:
    """A sink that receives neither NaN nor infinity."""

    def finite(values: Values, step: int) -> None:
        sink({name: value for name, value in values.items() if math.isfinite(value)}, step)

    return finite
