"""Parts of the kernels: load, update and store some elements; coefficients of rows."""

import triton
import triton.language as tl

from tangential.backends.triton.kernels.arguments import KAHAN, LEAST, ROW, STOCHASTIC, UNKNOWN


@triton.jit
def address_of(table, i, dtype: tl.constexpr):
    """The pointer to a weight's elements, from a table of addresses."""
    return tl.load(table + i).to(tl.pointer_type(dtype))


@triton.jit
def hashed(x):
    """C. Wellons' "lowbias32" of an unsigned 32-bit integer."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def learning_rate(t, n, f: tl.constexpr):
    """The learning rate, a number or a tensor."""
    return tl.load(t.lr).to(tl.float32) if f.lr_on_device else n.lr


@triton.jit
def is_skipped(t, f: tl.constexpr):
    """Whether GradScaler has found an infinite gradient."""
    skipped = False
    if f.scaled:
        skipped = tl.load(t.found_inf).to(tl.float32) != 0
    return skipped


@triton.jit
def loaded(t, n, f: tl.constexpr, i, at, mask, fresh, inverse_scale):
    """The elements `at` of w, g, m, v and u; if `fresh`, m and v do not include g yet."""
    w = tl.load(address_of(t.params, i, f.weight) + at, mask, 0).to(tl.float32)
    if f.rounding == KAHAN:
        w += tl.load(address_of(t.rests, i, f.weight) + at, mask, 0).to(tl.float32)
    g = tl.load(address_of(t.grads, i, f.weight) + at, mask, 0).to(tl.float32) * inverse_scale
    m = tl.load(address_of(t.firsts, i, f.moment) + at, mask, 0).to(tl.float32)
    v = m
    sign = -1.0 if f.maximize else 1.0
    rise = sign * g
    if f.adam:
        v = tl.load(address_of(t.seconds, i, f.moment) + at, mask, 0).to(tl.float32)
        m = tl.where(fresh, n.beta1 * m + n.take1 * rise, m)
        v = tl.where(fresh, n.beta2 * v + n.take2 * rise * rise, v)
        ahead = n.beta1 * m + n.take1 * rise if f.nesterov else m
        first, second = tl.load(t.corrections + 2 * i), tl.load(t.corrections + 2 * i + 1)
        u = ahead / first / (tl.sqrt(v) / second + n.eps)
    else:
        past = tl.where(n.beta1 != 0, n.beta1 * m, 0)  # 0 * inf would stay NaN
        m = tl.where(fresh, past + n.take1 * rise, m)
        u = rise + n.beta1 * m if f.nesterov else m
    return w, g, rise, m, v, tl.where(mask, u, 0)


@triton.jit
def store_grad(t, f: tl.constexpr, i, at, mask, g):
    """Leave the unscaled gradient, as torch's fused optimizers do."""
    if f.scaled:
        tl.store(address_of(t.grads, i, f.weight) + at, g.to(f.weight), mask)


@triton.jit
def store_state(t, f: tl.constexpr, i, at, mask, m, v):
    """Round the moments to their dtype, and store them."""
    tl.store(address_of(t.firsts, i, f.moment) + at, m.to(f.moment), mask)
    if f.adam:
        tl.store(address_of(t.seconds, i, f.moment) + at, v.to(f.moment), mask)


@triton.jit
def store_weight(t, f: tl.constexpr, i, at, mask, w):
    """Round w to the weight's dtype, and store it."""
    if f.rounding == STOCHASTIC:
        noise = hashed(at.to(tl.uint32) ^ tl.load(t.noise + i).to(tl.uint32))
        bits = w.to(tl.uint32, bitcast=True) + (noise & ((1 << f.lost) - 1))
        bits = (bits >> f.lost) << f.lost
        finite = tl.abs(w) < float("inf")
        w = tl.where(finite, bits.to(tl.float32, bitcast=True), w)
    narrow = w.to(f.weight)
    tl.store(address_of(t.params, i, f.weight) + at, narrow, mask)
    if f.rounding == KAHAN:
        rest = w - narrow.to(tl.float32)
        rest = tl.where(tl.abs(rest) < float("inf"), rest, 0)
        tl.store(address_of(t.rests, i, f.weight) + at, rest.to(f.weight), mask)


@triton.jit
def coef(uw, ww, eps):
    """As `maths.coef`, of one unit."""
    norm = tl.sqrt(ww) + eps
    c = uw / (norm * norm)
    return tl.where(tl.abs(c) < float("inf"), c, 0)


@triton.jit
def after_step(w, b, step):
    """The new weight."""
    return w - (tl.where(b == 0, 0, b * w) + step)  # 0 * inf would be NaN


@triton.jit
def is_orthogonal(ww, gg, gw, threshold, eps):
    """As `maths.orthogonal`."""
    norms = tl.maximum(tl.sqrt(ww), eps) * tl.maximum(tl.sqrt(gg), eps)
    return (tl.abs(gw) / norms < threshold) & (norms < float("inf"))


@triton.jit
def guessed_factor(t, n, f: tl.constexpr, i, uw, ww):
    """The b of rows that move as guessed; and whether they do [rows]."""
    guessed = tl.load(t.guesses + i)
    projected = guessed == ROW
    c = tl.where(projected, coef(uw, ww, n.eps), 0)
    b = learning_rate(t, n, f) * (n.decay * tl.where(projected, n.wd_ratio, 1.0) - c)
    least = tl.where(tl.load(t.first_units + i) < 0, 0.0, LEAST)
    return b, tl.abs(1 - b) >= tl.where(guessed == UNKNOWN, float("inf"), least)
