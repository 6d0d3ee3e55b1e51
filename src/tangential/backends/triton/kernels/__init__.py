"""The step's four kernels: guess, advance, judge, amend. Each is launched once for all weights.

guess     per weight: counts its step, and guesses the gate's decision from a few rows
advance   per tile of rows: new moments, inner products; moves the rows as guessed
judge     per weight: the gate's decision, from all inner products
amend     per tile: moves the rows of weights that were guessed wrong, or not at all

A tile has `TILE` elements: one row, or several short ones. A row longer than a tile is read in
pieces, twice if it is projected. A weight that is never projected is cut into rows of a tile each.

Legend
    w, g, u        weight, gradient, update          m, v   state: Adam's moments, SGD's momentum
    ww, gg, gw, uw inner products per unit           c      projection coefficient
    b              w <- w - (b w + lr u), with b = lr (decay damp - c); 1 - b may be 1 in float32
"""

from tangential.backends.triton.kernels.arguments import (
    OFF,
    PROJECTIONS,
    ROUNDINGS,
    Form,
    Numbers,
    Tables,
)
from tangential.backends.triton.kernels.changes import Changes, amend_changes, measure
from tangential.backends.triton.kernels.decisions import guess, judge
from tangential.backends.triton.kernels.moves import advance, amend

__all__ = [
    "OFF",
    "PROJECTIONS",
    "ROUNDINGS",
    "Changes",
    "Form",
    "Numbers",
    "Tables",
    "advance",
    "amend",
    "amend_changes",
    "guess",
    "judge",
    "measure",
]
