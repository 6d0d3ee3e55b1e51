"""Execution paths. A backend is two names:

`batches(params, rows)` yields the positions of weights that are worked on together, and
`RULES[rule](grads, states, group)` advances their states and returns their updates.
"""

from types import ModuleType

from torch import Tensor

from tangential.backends import eager, foreach


def choose(params: list[Tensor], wanted: bool | None) -> ModuleType:
    """The backend for these weights: as wanted, else the faster."""
    return foreach if wanted or wanted is None else eager
