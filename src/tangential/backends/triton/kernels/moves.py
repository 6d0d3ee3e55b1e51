"""The kernels that move weights: `advance` and `amend`."""

import triton
import triton.language as tl

from tangential.backends.triton.kernels.arguments import NONE, ROW, TILE, UNKNOWN, WEIGHT
from tangential.backends.triton.kernels.elements import (
    after_step,
    coef,
    guessed_factor,
    is_skipped,
    learning_rate,
    loaded,
    store_grad,
    store_state,
    store_weight,
)

# ---- advance


@triton.jit
def advance(t, n, f: tl.constexpr):
    """Advance the moments of a tile's rows, sum their products, and move them as guessed."""
    tile = tl.program_id(0)
    i, first = tl.load(t.tiles + 3 * tile), tl.load(t.tiles + 3 * tile + 1)
    size_class = tl.load(t.tiles + 3 * tile + 2)
    if not is_skipped(t, f):
        if size_class == 0:
            _advance_rows(t, n, f, i, first, 16)
        elif size_class == 1:
            _advance_rows(t, n, f, i, first, 64)
        elif size_class == 2:
            _advance_rows(t, n, f, i, first, 256)
        elif size_class == 3:
            _advance_rows(t, n, f, i, first, 1024)
        elif size_class == 4:
            _advance_rows(t, n, f, i, first, TILE)
        else:
            _advance_long_row(t, n, f, i, first)


@triton.jit
def _places(t, i, first, start, width: tl.constexpr):
    """The rows of a tile, and their elements from column `start` on [rows, width]: which exist."""
    rows = first + tl.arange(0, TILE // width)
    columns, k = start + tl.arange(0, width), tl.load(t.unit_sizes + i)
    at = rows.to(tl.int64)[:, None] * k + columns[None, :]
    return rows, at, (columns < k)[None, :] & (at < tl.load(t.sizes + i))


@triton.jit
def _inverse_scale(t, f: tl.constexpr):
    scale = 1.0
    if f.scaled:
        scale = tl.load(t.grad_scale).to(tl.float32)
    return 1.0 / scale


@triton.jit
def _store_sums(t, f: tl.constexpr, i, rows, ww, gg, gw, uw, uu):
    first = tl.load(t.first_units + i)
    at, mask = t.sums + 5 * (first + rows), (first >= 0) & (rows < tl.load(t.units + i))
    tl.store(at, ww, mask)
    tl.store(at + 1, gg, mask)
    tl.store(at + 2, gw, mask)
    tl.store(at + 3, uw, mask)
    if f.watched:
        tl.store(at + 4, uu, mask)


@triton.jit
def _advance_rows(t, n, f: tl.constexpr, i, first, width: tl.constexpr):
    rows, at, mask = _places(t, i, first, 0, width)
    w, g, rise, m, v, u = loaded(t, n, f, i, at, mask, True, _inverse_scale(t, f))
    ww, uw = tl.sum(w * w, 1), tl.sum(u * w, 1)
    _store_sums(
        t, f, i, rows, ww, tl.sum(rise * rise, 1), tl.sum(rise * w, 1), uw, tl.sum(u * u, 1)
    )
    store_grad(t, f, i, at, mask, g)
    store_state(t, f, i, at, mask & (tl.load(t.guesses + i) != UNKNOWN), m, v)
    b, moves = guessed_factor(t, n, f, i, uw, ww)
    store_weight(
        t, f, i, at, mask & moves[:, None], after_step(w, b[:, None], learning_rate(t, n, f) * u)
    )


@triton.jit
def _advance_long_row(t, n, f: tl.constexpr, i, row):
    """One row in pieces: the moments and the products first, then its elements."""
    k, known = tl.load(t.unit_sizes + i), tl.load(t.guesses + i) != UNKNOWN
    zeros = tl.zeros([1], tl.float32)
    ww, gg, gw, uw, uu = zeros, zeros, zeros, zeros, zeros
    for start in range(0, k, TILE):
        _, at, mask = _places(t, i, row, start, TILE)
        w, g, rise, m, v, u = loaded(t, n, f, i, at, mask, True, _inverse_scale(t, f))
        ww, gg, gw = ww + tl.sum(w * w, 1), gg + tl.sum(rise * rise, 1), gw + tl.sum(rise * w, 1)
        uw, uu = uw + tl.sum(u * w, 1), uu + tl.sum(u * u, 1)
        store_grad(t, f, i, at, mask, g)
        store_state(t, f, i, at, mask & known, m, v)
    _store_sums(t, f, i, row + tl.arange(0, 1), ww, gg, gw, uw, uu)
    if known:
        b, moves = guessed_factor(t, n, f, i, uw, ww)
        for start in range(0, k, TILE):
            _, at, mask = _places(t, i, row, start, TILE)
            w, _, _, _, _, u = loaded(t, n, f, i, at, mask, False, 1.0)
            moved = after_step(w, b[:, None], learning_rate(t, n, f) * u)
            store_weight(t, f, i, at, mask & moves[:, None], moved)


# ---- amend


@triton.jit
def amend(t, n, f: tl.constexpr):
    """Move a tile's rows as decided, unless they already are."""
    tile = tl.program_id(0)
    i, first = tl.load(t.tiles + 3 * tile), tl.load(t.tiles + 3 * tile + 1)
    size_class = tl.load(t.tiles + 3 * tile + 2)
    if not is_skipped(t, f) and tl.load(t.amended + i) != 0:  # never of a weight without units
        if size_class == 0:
            _amend_rows(t, n, f, i, first, 16)
        elif size_class == 1:
            _amend_rows(t, n, f, i, first, 64)
        elif size_class == 2:
            _amend_rows(t, n, f, i, first, 256)
        elif size_class == 3:
            _amend_rows(t, n, f, i, first, 1024)
        else:
            _amend_rows(t, n, f, i, first, TILE)


@triton.jit
def _amend_rows(t, n, f: tl.constexpr, i, first, width: tl.constexpr):
    decision, guessed, lr = tl.load(t.decisions + i), tl.load(t.guesses + i), learning_rate(t, n, f)
    rows = first + tl.arange(0, TILE // width)
    sums, exist = t.sums + 5 * (tl.load(t.first_units + i) + rows), rows < tl.load(t.units + i)
    ww, uw = tl.load(sums, exist, 0), tl.load(sums + 3, exist, 0)
    by_row = coef(uw, ww, n.eps)
    c = tl.where(decision == ROW, by_row, tl.where(decision == WEIGHT, tl.load(t.coefs + i), 0))
    b = lr * (n.decay * tl.where(decision == NONE, 1.0, n.wd_ratio) - c)
    guessed_b, moved = guessed_factor(t, n, f, i, uw, ww)
    fresh = guessed == UNKNOWN
    for start in range(0, tl.load(t.unit_sizes + i), width):
        _, at, mask = _places(t, i, first, start, width)
        mask &= (~moved | (decision != guessed))[:, None]
        w, _, _, m, v, u = loaded(t, n, f, i, at, mask, fresh, 1.0)
        before = tl.where(moved[:, None], (w + lr * u) / (1 - guessed_b)[:, None], w)
        store_weight(t, f, i, at, mask, after_step(before, b[:, None], lr * u))
        store_state(t, f, i, at, mask & fresh, m, v)
