"""The kernels around the step of any optimizer: `measure` and `amend_changes`.

A weight's units are cut into pieces of equal size, of which only the last of a unit may be shorter;
most units are one piece. A tile has one piece, or several short ones.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from tangential.backends.triton.kernels.arguments import TILE
from tangential.backends.triton.kernels.elements import address_of


class Changes(NamedTuple):
    """Arrays on the device, one entry per weight unless said otherwise."""

    befores: object  # addresses: of the weights before the step,
    afters: object  # after it, and
    grads: object  # their gradients
    pieces: object  # number of pieces
    splits: object  # pieces of a unit
    piece_sizes: object  # elements of a piece
    unit_sizes: object  # elements of a unit
    first_pieces: object  # index of the first piece in `sums`
    first_units: object  # index of the first unit in `whole`, `scale`, `shrink` and `slope`
    tiles: object  # [tiles, 3]: weight, first piece, index of the piece size's class
    sums: object  # [pieces, 3]: ww, xw, xx
    whole: object  # [units of all]: whether the weight is projected as a whole
    scale: object  # [units of all]
    shrink: object
    slope: object


# ---- measure


@triton.jit
def measure(t, copies: tl.constexpr):
    """Sum the products of w and x per piece: x is the change, or if `copies` the gradient.

    With `copies`, w is also copied.
    """
    i, first, size_class = _tile(t)
    if size_class == 0:
        _measure(t, copies, i, first, 16)
    elif size_class == 1:
        _measure(t, copies, i, first, 64)
    elif size_class == 2:
        _measure(t, copies, i, first, 256)
    elif size_class == 3:
        _measure(t, copies, i, first, 1024)
    else:
        _measure(t, copies, i, first, TILE)


@triton.jit
def _tile(t):
    tile = t.tiles + 3 * tl.program_id(0)
    return tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)


@triton.jit
def _places(t, i, first, start, width: tl.constexpr):
    """The pieces of a tile, and their elements from column `start` on [pieces, width]."""
    pieces, splits = first + tl.arange(0, TILE // width), tl.load(t.splits + i)
    size, unit_size = tl.load(t.piece_sizes + i), tl.load(t.unit_sizes + i)
    columns = start + tl.arange(0, width)
    within = (pieces % splits)[:, None] * size + columns[None, :]
    at = (pieces // splits).to(tl.int64)[:, None] * unit_size + within
    exist = pieces < tl.load(t.pieces + i)
    return pieces, at, (columns < size)[None, :] & (within < unit_size) & exist[:, None]


@triton.jit
def _loaded(table, i, at, mask):
    return tl.load(address_of(table, i, tl.float32) + at, mask, 0)


@triton.jit
def _measure(t, copies: tl.constexpr, i, first, width: tl.constexpr):
    zeros = tl.zeros([TILE // width], tl.float32)
    ww, xw, xx = zeros, zeros, zeros
    for start in range(0, tl.load(t.piece_sizes + i), width):
        _, at, mask = _places(t, i, first, start, width)
        w = _loaded(t.befores, i, at, mask)
        if copies:
            x = _loaded(t.grads, i, at, mask)
            tl.store(address_of(t.afters, i, tl.float32) + at, w, mask)
        else:
            x = _loaded(t.afters, i, at, mask) - w
        ww, xw, xx = ww + tl.sum(w * w, 1), xw + tl.sum(x * w, 1), xx + tl.sum(x * x, 1)
    pieces = first + tl.arange(0, TILE // width)
    at, exist = _sums(t, i, pieces), pieces < tl.load(t.pieces + i)
    tl.store(at, ww, exist)
    tl.store(at + 1, xw, exist)
    tl.store(at + 2, xx, exist)


@triton.jit
def _sums(t, i, pieces):
    return t.sums + 3 * (tl.load(t.first_pieces + i) + pieces)


# ---- amend


@triton.jit
def amend_changes(t, linear: tl.constexpr, late: tl.constexpr):
    """Make weights before + scale e - shrink before, where e is their change.

    If `linear`, it is shrink + slope e.before, and units whose e.before is not in one piece, but in
    several or in the whole weight, do not move: only their sums are stored. If `late`, only these
    units move.
    """
    i, first, size_class = _tile(t)
    if size_class == 0:
        _amend(t, linear, late, i, first, 16)
    elif size_class == 1:
        _amend(t, linear, late, i, first, 64)
    elif size_class == 2:
        _amend(t, linear, late, i, first, 256)
    elif size_class == 3:
        _amend(t, linear, late, i, first, 1024)
    else:
        _amend(t, linear, late, i, first, TILE)


@triton.jit
def _amend(t, linear: tl.constexpr, late: tl.constexpr, i, first, width: tl.constexpr):
    pieces, splits = first + tl.arange(0, TILE // width), tl.load(t.splits + i)
    exist, size = pieces < tl.load(t.pieces + i), tl.load(t.piece_sizes + i)
    units = tl.load(t.first_units + i) + pieces // splits
    c, moves = tl.load(t.shrink + units, exist, 0), exist
    if linear or late:
        waits = exist & ((tl.load(t.whole + units, exist, 0) != 0) | (splits > 1))
        moves = waits if late else exist & ~waits
    if linear:
        ew = tl.zeros([TILE // width], tl.float32)
        for start in range(0, size, width):
            _, at, mask = _places(t, i, first, start, width)
            w = _loaded(t.befores, i, at, mask)
            ew += tl.sum((_loaded(t.afters, i, at, mask) - w) * w, 1)
        tl.store(_sums(t, i, pieces) + 1, ew, exist)
        more = tl.load(t.slope + units, exist, 0) * ew
        c += tl.where(tl.abs(more) < float("inf"), more, 0)  # w may have an infinite element
    if tl.sum(moves.to(tl.int32)) > 0:
        for start in range(0, size, width):
            _, at, mask = _places(t, i, first, start, width)
            mask &= moves[:, None]
            w, after = _loaded(t.befores, i, at, mask), _loaded(t.afters, i, at, mask)
            if t.scale is not None:
                after = w + tl.load(t.scale + units, exist, 1)[:, None] * (after - w)
            after -= tl.where(c[:, None] == 0, 0, c[:, None] * w)  # 0 * inf would be NaN
            tl.store(address_of(t.afters, i, tl.float32) + at, after, mask)
