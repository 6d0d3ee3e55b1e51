"""The sinks that a user passes to a monitor: checked before the run, closed together."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tangential.monitor.columns import Values
from tangential.monitor.sinks.services import Wandb, wandb_run

Sink = Callable[[Values, int], Any]

_open: WeakValueDictionary[int, Any] = WeakValueDictionary()  # monitors by the id of their sink


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
        return Wandb(run)
    try:
        inspect.signature(sink).bind({}, 0)
    except TypeError:
        raise TypeError(_wrong_sink(sink)) from None
    except ValueError:  # some functions in C have no signature
        pass
    return sink


def _wrong_sink(sink: Any) -> str:
    shown = getattr(sink, "__name__", f"a {type(sink).__name__}")
    hint = "tangential.monitor.sinks makes them for files, TensorBoard and W&B"
    if isinstance(sink, (str, Path)):
        shown = repr(str(sink))
        hint = f"use tangential.monitor.sinks.csv({shown})"
    return f"sinks must be callables (values, step), got {shown}: {hint}"


def claim(sinks: list[Sink], monitor: Any) -> None:
    """Note that a monitor logs to these sinks; warn if another open monitor does too.

    Only sinks that have a `close` are checked: a plain function may serve several monitors.
    """
    for sink in sinks:
        if hasattr(sink, "close"):
            if _open.get(id(sink), monitor) is not monitor:
                path = getattr(sink, "path", None)
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
    """Close all sinks that have a `close`, even if one of them raises."""
    with ExitStack() as closing:
        for sink in reversed(sinks):
            closing.callback(getattr(sink, "close", lambda: None))
