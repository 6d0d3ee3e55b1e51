"""Options that differ between variables, by patterns of their paths."""

import re
from typing import Any

from tangential.checks import integer
from tangential.units import Layout, Units, check_projection, layout_of

DEFAULTS = {"row_axis": -1, "row_groups": 1, "projection": "auto"}


def options(audit: Any) -> dict[str, dict[str, Any]]:
    r"""The arguments `row_axis`, `row_groups` and `projection` that an audit has found.

    Args:
        audit: The result of `tangential.audit(model, batches)` for a model of Keras.

    >>> from tangential.invariance import Audit, Line
    >>> line = Line("net/dense/kernel", (4, 3), 12, "row", 1, 1, 0.0, 0.0, None, ("row",), ())
    >>> options(Audit((line,), (), "training", 1))["row_axis"]
    {'^net/dense/kernel$': 1}
    """
    return {
        name: {f"^{re.escape(line.name)}$": getattr(line.units, name) for line in audit.lines}
        for name in DEFAULTS
    }


def layouts(variables: list[Any], **choices: Any) -> tuple[list[Units], list[Layout | None]]:
    """The units of every variable, and where they lie; None if it is never projected.

    Raises:
        ValueError: an option is out of range or does not fit a variable, or a pattern fits none.
    """
    paths = [variable.path for variable in variables]
    columns = [_values(name, option, paths) for name, option in choices.items()]
    units = [_units(**dict(zip(choices, row, strict=True))) for row in zip(*columns, strict=True)]
    shapes = [tuple(variable.shape) for variable in variables]
    return units, [layout_of(*pair) for pair in zip(shapes, units, strict=True)]


def _values(name: str, option: Any, paths: list[str]) -> list[Any]:
    """An option's value for every path."""
    if not isinstance(option, dict):
        return [option] * len(paths)
    for pattern in option:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"{name} has the pattern {pattern!r}, but no trainable variable has such a path: "
                f"they are {', '.join(paths):.500}"
            )
    firsts = ([p for p in option if re.search(p, path)][:1] for path in paths)
    return [option[first[0]] if first else DEFAULTS[name] for first in firsts]


def _units(row_axis: Any, row_groups: Any, projection: Any) -> Units:
    check_projection(projection)
    return Units(
        projection, integer("row_axis", row_axis), integer("row_groups", row_groups, least=1)
    )
