"""The kernels that decide about weights: `guess` and `judge`."""

import triton
import triton.language as tl

from tangential.backends.triton.kernels.arguments import (
    AUTO,
    GUESSED,
    NONE,
    ROW,
    STOCHASTIC,
    UNITS,
    UNKNOWN,
    WEIGHT,
)
from tangential.backends.triton.kernels.elements import (
    address_of,
    coef,
    guessed_factor,
    hashed,
    is_orthogonal,
    is_skipped,
)

# ---- guess


@triton.jit
def guess(t, n, f: tl.constexpr):
    """Count a weight's step; guess its decision."""
    i = tl.program_id(0)
    if not is_skipped(t, f):
        if f.adam or f.rounding == STOCHASTIC:
            _count(t, n, f, i)
        if tl.load(t.first_units + i) >= 0:
            tl.store(t.guesses + i, _guessed(t, n, f, i))
        else:
            tl.store(t.guesses + i, NONE)
            tl.store(t.amended + i, 0)


@triton.jit
def _count(t, n, f: tl.constexpr, i):
    address = address_of(t.counts, i, tl.float32)
    count = tl.load(address) + 1
    tl.store(address, count)
    if f.adam:
        exact = count.to(tl.float64)
        first = 1 - tl.exp(exact * n.log_beta1)
        second = tl.sqrt(1 - tl.exp(exact * n.log_beta2))
        tl.store(t.corrections + 2 * i, first.to(tl.float32))
        tl.store(t.corrections + 2 * i + 1, second.to(tl.float32))
    if f.rounding == STOCHASTIC:
        tl.store(t.noise + i, hashed(count.to(tl.uint32) + tl.load(t.seeds + i).to(tl.uint32)))


@triton.jit
def _guessed(t, n, f: tl.constexpr, i):
    units, k = tl.load(t.units + i), tl.load(t.unit_sizes + i)
    if f.lost > 0 or f.projection == WEIGHT:
        guessed = 0 * units + UNKNOWN  # a rounded weight would not come back
    elif f.projection == ROW:
        guessed = tl.where(k > 1, ROW, NONE)
    else:
        fits, step = 0 * units + 1, tl.maximum(units - 1, 1)
        for j in range(GUESSED):
            row = (j * step // (GUESSED - 1)) % units
            fits &= _row_fits(t, n, f, i, row, k).to(tl.int32)
        guessed = tl.where((fits > 0) & (k > 1), ROW, NONE)
    return guessed


@triton.jit
def _row_fits(t, n, f: tl.constexpr, i, row, k):
    """Whether a row's gradient is orthogonal to it."""
    columns = tl.arange(0, UNITS)
    zeros = tl.zeros([UNITS], tl.float32)
    ww, gg, gw = zeros, zeros, zeros
    for start in range(0, k, UNITS):
        at, mask = row.to(tl.int64) * k + start + columns, start + columns < k
        w = tl.load(address_of(t.params, i, f.weight) + at, mask, 0).to(tl.float32)
        g = tl.load(address_of(t.grads, i, f.weight) + at, mask, 0).to(tl.float32)
        ww, gg, gw = ww + w * w, gg + g * g, gw + g * w
    threshold = n.delta / tl.sqrt(k.to(tl.float32))
    return is_orthogonal(tl.sum(ww), tl.sum(gg), tl.sum(gw), threshold, n.eps)


# ---- judge


@triton.jit
def judge(t, n, f: tl.constexpr):
    """Decide about a weight, from the products of all its units."""
    i = tl.program_id(0)
    first = tl.load(t.first_units + i)
    if not is_skipped(t, f) and first >= 0:
        _judge(t, n, f, i, t.sums + 5 * first)


@triton.jit
def _judge(t, n, f: tl.constexpr, i, sums):
    units, k = tl.load(t.units + i), tl.load(t.unit_sizes + i)
    guessed, threshold = tl.load(t.guesses + i), n.delta / tl.sqrt(k.to(tl.float32))
    zeros = tl.zeros([UNITS], tl.float32)
    wws, ggs, gws, uws, failing, unmoved = zeros, zeros, zeros, zeros, zeros, zeros
    for start in range(0, units, UNITS):
        rows = start + tl.arange(0, UNITS)
        at, mask = sums + 5 * rows, rows < units
        ww, gg = tl.load(at, mask, 0), tl.load(at + 1, mask, 0)
        gw, uw = tl.load(at + 2, mask, 0), tl.load(at + 3, mask, 0)
        fits = is_orthogonal(ww, gg, gw, threshold, n.eps)
        _, moves = guessed_factor(t, n, f, i, uw, ww)
        wws, ggs, gws, uws = wws + ww, ggs + gg, gws + gw, uws + uw
        failing += tl.where(mask & ~fits, 1.0, 0.0)
        unmoved += tl.where(mask & ~moves, 1.0, 0.0)
    size = tl.load(t.sizes + i)
    if f.projection == AUTO:
        whole = n.delta / tl.sqrt(size.to(tl.float32))
        fits = is_orthogonal(tl.sum(wws), tl.sum(ggs), tl.sum(gws), whole, n.eps) & (size > 1)
        by_row = (tl.sum(failing) == 0) & (k > 1)
        decision = tl.where(by_row, ROW, tl.where(fits, WEIGHT, NONE))
    elif f.projection == ROW:
        decision = tl.where(k > 1, ROW, NONE)
    else:
        decision = tl.where(size > 1, WEIGHT, NONE)
    tl.store(t.decisions + i, decision)
    tl.store(t.coefs + i, coef(tl.sum(uws), tl.sum(wws), n.eps))
    tl.store(t.amended + i, (decision != guessed) | (tl.sum(unmoved) > 0))
