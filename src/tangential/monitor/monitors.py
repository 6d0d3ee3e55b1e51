"""The monitors of a run that may have several optimizers, with sinks and step number in common."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import nn

from tangential.invariance import Audit
from tangential.monitor.columns import Values
from tangential.monitor.given_sinks import Sink, checked, close, step_number
from tangential.monitor.monitor import Monitor, check, shares_weights


class Shared(NamedTuple):
    """A sink as one of several monitors has it: it has no `close`, and one step number for all.

    The steps that each optimizer has taken would not do: they differ, and W&B and files want
    numbers that never fall.
    """

    sink: Sink
    label: str
    weights: bool
    now: Callable[[], int]

    def __call__(self, values: Values, _: int) -> None:
        """Tell the sink."""
        self.sink(
            {self.label + name: value for name, value in values.items()}, step_number(self.now())
        )


class Monitors:
    """The monitors of a run, one for each optimizer, and the sinks that they share.

    Args:
        every: As in `Monitor`.
        sinks: As in `Monitor`.
        weights: As in `Monitor`.
        audit: As in `Monitor`.
    """

    def __init__(
        self, every: int, sinks: Sink | Iterable[Sink], weights: bool, audit: Audit | None
    ) -> None:
        check(every, audit)
        self.every, self.weights, self.audit = every, weights, audit
        self.sinks = checked(sinks)
        self.each: list[Monitor | None] = []
        self.before: list[int] = []  # steps that each optimizer has taken without these monitors

    def steps(self) -> list[int]:
        """The steps that each optimizer has taken; `every` counts by them."""
        known = zip(self.each, self.before, strict=False)
        return [monitor.step if monitor else step for monitor, step in known] or self.before

    def attach(
        self,
        model: nn.Module,
        optimizers: list[Any],
        before: list[int],
        sinks: list[Sink],
        now: Callable[[], int],
    ) -> None:
        """Attach a monitor to every optimizer, in place of those that an earlier run has left.

        Of several optimizers, those that have no weight of the model are left out.

        Args:
            model: As in `Monitor`.
            optimizers: As in `Monitor`; Accelerate's own unwrapped.
            before: Steps that each has taken; where not known, they have taken equally many.
            sinks: What is told in this process.
            now: The trainer's step number.
        """
        self.detach()
        if len(before) != len(optimizers):
            before = [now() // len(optimizers)] * len(optimizers)
        self.before, shares = before, [shares_weights(model, one) for one in optimizers]
        for i, label in enumerate(labels(optimizers)):
            if any(shares) and not shares[i]:
                self.each.append(None)
                continue
            own = [Shared(s, label, getattr(s, "weights", self.weights), now) for s in sinks]
            monitor = Monitor(
                model, optimizers[i], self.every, own, audit=self.audit, step=before[i]
            )
            self.each.append(monitor)

    def detach(self) -> None:
        """Let the optimizers go."""
        self.before = self.steps()
        for monitor in self.each:
            if monitor:
                monitor.close()
        self.each = []

    def close(self) -> None:
        """Let the optimizers go, and close the sinks that can be closed."""
        self.detach()
        close(self.sinks)


def labels(optimizers: list[Any]) -> list[str]:
    """What the labels of each optimizer's values begin with: nothing, where it is the only one.

    As in Lightning's LearningRateMonitor, the class; from its second optimizer on with a number.

    >>> import torch
    >>> labels([torch.optim.SGD([torch.zeros(2)], lr=0.1) for _ in range(2)])
    ['SGD/', 'SGD-1/']
    """
    if len(optimizers) == 1:
        return [""]
    kinds = [type(optimizer).__name__ for optimizer in optimizers]
    before = [kinds[:i].count(kind) for i, kind in enumerate(kinds)]
    return [f"{kind}-{n}/" if n else f"{kind}/" for kind, n in zip(kinds, before, strict=True)]
