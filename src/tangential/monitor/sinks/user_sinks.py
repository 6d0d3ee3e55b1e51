"""The sinks that a user passes to a monitor: checked before the run, closed together."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tangential.monitor.columns import Values
from tangential.monitor.sinks.services import Wandb, wandb_run

Sink = Callable[[Values, int], Any]


def as_sinks(sinks: Sink | Iterable[Sink]) -> list[Sink]:
    """The sinks as a list, if each is callable with (values, step); a W&B run becomes a `Wandb`."""
    several: Any = [sinks]
    if isinstance(sinks, Iterable) and not (callable(sinks) or isinstance(sinks, str)):
        several = sinks
    return [_as_sink(sink) for sink in several]


def _as_sink(sink: Any) -> Sink:
    if wandb_run(sink) is not None:
        return Wandb(sink)
    try:
        inspect.signature(sink).bind({}, 0)
    except TypeError:
        shown = getattr(sink, "__name__", f"a {type(sink).__name__}")
        hint = "tangential.monitor.sinks makes them for files, TensorBoard and W&B"
        if isinstance(sink, (str, Path)):
            shown = repr(str(sink))
            hint = f"use tangential.monitor.sinks.csv({shown})"
        raise TypeError(f"sinks must be callables (values, step), got {shown}: {hint}") from None
    except ValueError:  # some functions in C have no signature
        pass
    return sink


def warn_if_shared(sinks: list[Sink], monitors: Iterable[Any]) -> None:
    """Warn if one of these monitors logs to one of the sinks.

    Only sinks that have a `close` are checked: a plain function may serve several monitors.
    """
    used = {id(sink) for monitor in monitors for sink in monitor.sinks}
    for sink in sinks:
        if hasattr(sink, "close") and id(sink) in used:
            path = getattr(sink, "path", None)
            warnings.warn(
                f"another open Monitor logs to this {type(sink).__name__} sink"
                f"{f' ({path})' if path else ''}, which will mix the values of both: close the "
                "other Monitor first, or give each Monitor its own sink",
                stacklevel=3,
            )


def call(
    sinks: list[Sink],
    values: Values,
    detailed: Values,
    units: Callable[[], dict[str, Any]],
    step: int,
    weights: bool,
) -> None:
    """Give a log to every sink, even if one of them raises.

    Args:
        sinks: The sinks; one may have the attributes `weights` and `log_units`.
        values: Means over weights.
        detailed: Values for every weight.
        units: Returns tensors "weight/column" with one value per unit, for `log_units`.
        step: Number of the step.
        weights: Whether a sink without the attribute `weights` wants values for every weight.
    """
    with ExitStack() as calls:  # the last one added is called first
        for sink in reversed(sinks):
            wants = getattr(sink, "weights", weights)
            calls.callback(sink, {**values, **detailed} if wants else dict(values), step)
            if log_units := getattr(sink, "log_units", None):
                calls.callback(lambda log=log_units: log(units(), step))


def close(sinks: list[Sink]) -> None:
    """Close all sinks that have a `close`, even if one of them raises."""
    with ExitStack() as closing:
        for sink in reversed(sinks):
            closing.callback(getattr(sink, "close", lambda: None))
