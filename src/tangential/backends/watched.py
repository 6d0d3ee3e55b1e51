"""What the gate saw of a batch of weights: the moments of a step, for whoever watches it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from tangential import maths
from tangential.backends.table import Table


class Seen(NamedTuple):
    """Inner products per unit [units of all weights] before a step, and what was decided.

    The step is w <- (1 - lr decay damp) w - lr (u - c w), by `maths.damp` and `maths.coef`.
    """

    params: list[Tensor]
    table: Table
    moments: maths.Moments
    uu: Tensor
    gate: maths.Gate
    group: dict[str, Any]  # options, as backends take them


Watch = Callable[[Seen], None]
