"""Watches how the weights of a model move during training, and reports problems.

- `monitor`: `Monitor`, around each step of an optimizer; `several`: one for each optimizer
- `samples`: inner products per weight; `updates`: what a step added; `labels`: names, audits
- `motion`: the equations; `columns`: the numbers that are logged
- `sinks`: where logs go; `diagnosis`: verdicts on a logged run
"""

from tangential.monitor import sinks
from tangential.monitor.columns import Values
from tangential.monitor.diagnosis import (
    Run,
    Verdict,
    advice,
    compare,
    diagnose,
    fell,
    figures,
    grew,
    load,
    multiple,
    percent,
)
from tangential.monitor.monitor import Monitor
from tangential.monitor.several import Monitors, finite_only
from tangential.monitor.sinks.user_sinks import Sink

__all__ = [
    "Monitor",
    "Monitors",
    "Run",
    "Sink",
    "Values",
    "Verdict",
    "advice",
    "compare",
    "diagnose",
    "fell",
    "figures",
    "finite_only",
    "grew",
    "load",
    "multiple",
    "percent",
    "sinks",
]
