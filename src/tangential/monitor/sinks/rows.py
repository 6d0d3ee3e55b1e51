"""The rows of a log: one row for every step and label, with the columns in one order.

Hundreds of weights make many rows, not thousands of columns.
"""

from typing import Any

from tangential.monitor import columns
from tangential.monitor.columns import DEPTHS, Values

COLUMNS = (*columns.COLUMNS, "invariant", "memory_share", "frozen_norms", "frozen")
FIELDS = ("step", "label", *COLUMNS)
AGGREGATES = ("all", *DEPTHS)
TOO_LARGE = 2**63  # Parquet's int64 holds no such number

Row = dict[str, Any]  # "step", "label", and the columns that were logged


def memory(weights: bool = True) -> "Memory":
    """A list that receives a dictionary for every step and label, for `diagnose` and pandas.

    Args:
        weights: Also keep values for every weight.

    >>> log = memory()
    >>> log({"all/norm": 2.0}, 0)
    >>> log
    [{'step': 0, 'label': 'all', 'norm': 2.0}]
    """
    return Memory(weights)


class Memory(list[Row]):
    """See `memory`."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights = weights

    def __call__(self, values: Values, step: int) -> None:
        """Append the rows of a log."""
        self += rows_of_log(values, step)

    def close(self) -> None:
        """Do nothing. Without a `close`, two monitors that share this sink would not warn."""


def rows_of_log(values: Values, step: Any) -> list[Row]:
    """The rows of a log; the keys of `values` must be "label/column".

    >>> rows_of_log({"all/norm": 2.0, "all/lr": 0.1, "bn/frozen": 1.0}, step=5)[1]
    {'step': 5, 'label': 'bn', 'frozen': 1.0}
    """
    step, rows = step_number(step), {}
    for key, value in values.items():
        label, _, column = key.rpartition("/")
        if not label or column not in COLUMNS:
            raise ValueError(
                f"{key!r} is not a key that a monitor logs: keys must be 'label/column' "
                f"with one of the columns {', '.join(COLUMNS)}"
            )
        rows.setdefault(label, {"step": step, "label": label})[column] = float(value)
    return list(rows.values())


def step_number(step: Any) -> int:
    """Convert a step number to int: an int, or a float, array or tensor with an integral value.

    Raises:
        ValueError: it is not an integer in the range of 0 to 2**63 - 1.

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
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value % 1 or value < 0:
        raise ValueError(f"step must be an integer >= 0, got {step!r:.80}")
    if value >= TOO_LARGE:
        raise ValueError(f"step must be less than 2**63, got {step!r:.80}")
    return int(value)
