"""What a monitor logs in long form: a line for every step and label, its columns in one order.

Hundreds of weights make many lines, not thousands of columns.
"""

from collections.abc import Mapping
from typing import Any

from tangential.monitor import columns
from tangential.monitor.columns import DEPTHS
from tangential.monitor.given_sinks import step_number

COLUMNS = (*columns.COLUMNS, "invariant", "memory_share", "frozen_norms", "frozen")
FIELDS = ("step", "label", *COLUMNS)
AGGREGATES = ("all", *DEPTHS)

Line = dict[str, Any]  # "step", "label", and the columns that were logged


def long(values: Mapping[str, float], step: int) -> list[Line]:
    """The lines of a log.

    Args:
        values: By "label/column".
        step: Of the log.

    Raises:
        ValueError: a key is no label and column of the monitor, or the step is no integer >= 0.

    >>> long({"all/norm": 2.0, "all/lr": 0.1, "bn/frozen": 1.0}, step=5)[1]
    {'step': 5, 'label': 'bn', 'frozen': 1.0}
    """
    step = step_number(step)
    lines: dict[str, Line] = {}
    for key, value in values.items():
        label, _, column = key.rpartition("/")
        if not label or column not in COLUMNS:
            raise ValueError(
                f"{key!r} is nothing that a monitor logs, allowed is 'label/column' "
                f"with one of the columns {', '.join(COLUMNS)}"
            )
        lines.setdefault(label, {"step": step, "label": label})[column] = float(value)
    return list(lines.values())
