"""The sinks that a user gives: checked when they are given, and closed together."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from numbers import Integral
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tangential.monitor.columns import Values

Sink = Callable[[Values, int], Any]

PREFIX = "tangential/"  # of W&B's metrics, which share a run with the user's own
STEPS = range(2**63)  # Parquet files have room for these


def step_number(step: Any) -> int:
    """A step number as an int: of an integer, or a float, array or tensor with an integral value.

    Raises:
        ValueError: it is no integer, or it is negative.

    >>> import torch
    >>> step_number(torch.tensor(3.0)), step_number(2.0)
    (3, 2)
    """
    value = step
    if callable(getattr(step, "item", None)):
        try:
            value = step.item()
        except (RuntimeError, ValueError):  # a tensor or an array of several elements
            value = None
    if not isinstance(value, (Integral, float)) or isinstance(value, bool) or value % 1:
        raise ValueError(f"step must be an integer >= 0, got {step!r:.80}")
    number = int(value)
    if number < 0:
        raise ValueError(f"step must be an integer >= 0, got {step!r:.80}")
    if number not in STEPS:
        raise ValueError(f"step must be less than 2**63, got {step!r:.80}")
    return number


def checked(sinks: Sink | Iterable[Sink]) -> list[Sink]:
    """The sinks as a list; a W&B run or its `log` becomes a `Wandb`.

    Raises:
        TypeError: one of them cannot be called with values and a step.

    >>> checked(print) == [print]
    True
    """
    several: Any = [sinks]
    if isinstance(sinks, Iterable) and not (callable(sinks) or isinstance(sinks, str)):
        several = sinks
    return [_checked(sink) for sink in several]


def _checked(sink: Any) -> Sink:
    run = wandb_run(sink)
    if run is not None:
        return Wandb(run, weights=False)
    if not callable(sink):
        raise TypeError(_explained(sink))
    try:
        inspect.signature(sink).bind({}, 0)
    except TypeError:
        raise TypeError(_explained(sink)) from None
    except ValueError:  # some functions in C have no signature
        pass
    return sink


def _explained(sink: Any) -> str:
    if isinstance(sink, (str, Path)):
        shown = repr(str(sink))
        return (
            f"sinks must be callables (values, step), got {shown}: "
            f"use tangential.monitor.sinks.csv({shown})"
        )
    name = getattr(sink, "__name__", f"a {type(sink).__name__}")
    return (
        f"sinks must be callables (values, step), got {name}: "
        "tangential.monitor.sinks makes them for files, TensorBoard and W&B"
    )


_open: WeakValueDictionary[int, Any] = WeakValueDictionary()  # monitors by the id of their sink


def claim(sinks: list[Sink], monitor: Any) -> None:
    """Note that a monitor logs to these sinks; warn where another open monitor does too.

    Only sinks that have a `close` are checked: a plain function may serve several monitors.
    """
    for sink in sinks:
        if hasattr(sink, "close"):
            if _open.get(id(sink), monitor) is not monitor:
                path = getattr(sink, "path", getattr(sink, "folder", None))
                warnings.warn(
                    f"another open Monitor logs to this {type(sink).__name__} sink"
                    f"{f' ({path})' if path else ''}, which will mix the values of both: close the "
                    "other Monitor first, or give each Monitor its own sink",
                    stacklevel=3,
                )
            _open[id(sink)] = monitor


def release(sinks: list[Sink], monitor: Any) -> None:
    """Note that a monitor no longer logs to these sinks."""
    for sink in sinks:
        if _open.get(id(sink)) is monitor:
            del _open[id(sink)]


def close(sinks: list[Sink]) -> None:
    """Close the sinks that have a `close`, all of them, even if one raises."""
    with ExitStack() as closing:
        for sink in reversed(sinks):
            closing.callback(getattr(sink, "close", _nothing))


def _nothing() -> None:
    """Close a sink that has nothing to close."""


# ---- Weights & Biases


def wandb_run(sink: Any) -> Any:
    """The W&B run that this is, or whose method `log` this is; else None."""
    owner = getattr(sink, "__self__", None)
    run = owner if owner is not None and getattr(sink, "__name__", "") == "log" else sink
    ours = callable(getattr(run, "define_metric", None)) and callable(getattr(run, "log", None))
    return run if ours else None


class Wandb:
    """See `tangential.monitor.sinks.wandb`.

    W&B drops whatever is logged at a step below its own, and counts each call of `log` as a step.
    So values are added to W&B's current row without ending it (`commit=False`), and the monitor's
    step is a metric of its own. A row to which nobody has logged since is ended first.
    """

    def __init__(self, run: Any, weights: bool) -> None:
        self.run, self.weights = run, weights
        self.row: int | None = None  # W&B's step at the last log
        self.defined = False

    def __call__(self, values: Values, step: int) -> None:
        """Log all but NaN."""
        step = step_number(step)
        if not self.defined:
            self.run.define_metric(f"{PREFIX}step")
            self.run.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}step")
            self.defined = True
        if self.row is not None and self.row == getattr(self.run, "step", None):
            self.run.log({}, commit=True)
        named = {f"{PREFIX}{name}": value for name, value in values.items() if value == value}
        self.run.log({**named, f"{PREFIX}step": step}, commit=False)
        self.row = getattr(self.run, "step", None)
