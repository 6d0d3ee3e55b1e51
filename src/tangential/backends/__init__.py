"""Execution paths.

A backend is two names:
`batches(params, rows)` yields the positions of weights that are worked on together, and
`RULES[rule](grads, states, group)` advances their states and returns their updates.
"""

from types import ModuleType

import torch

from tangential.backends import eager, foreach


def choose(wanted: bool | None) -> ModuleType:
    """The backend as wanted, else the faster: a compiler batches and fuses by itself."""
    if wanted is None:
        wanted = not torch.compiler.is_compiling()
    return foreach if wanted else eager
