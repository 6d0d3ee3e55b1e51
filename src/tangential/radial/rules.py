"""The rules, with their equations and sources.

Legend
    w, e        weight, and its change -lr u by an optimizer, before weight decay
    ww, ew, ee  inner products per unit, [units]     a       lr * decay
    c           e - c w is orthogonal to w           norm    the norm that a rule holds, [units]
"""

from math import isfinite, nan
from typing import Any, Literal

from tangential.maths import matched
from tangential.radial.rule import Factors, Rule

Norm = float | Literal["initial"]


def remove() -> Rule:
    """Remove the radial part: w+ = (1 - a wd_ratio) w + e - (e.w) w / (|w| + eps)^2.

    Source: Heo et al., "AdamP", ICLR 2021.
    """
    return Rule(_remove, linear=True)


def _remove(xp, change, state, setting):
    ww, ew, _ = change
    c = ew / (xp.sqrt(ww) + setting.eps) ** 2
    c = xp.where(xp.isfinite(c), c, xp.zeros_like(c))
    return Factors(None, c + setting.lr * setting.decay * setting.wd_ratio), state


def brake(outward: float = 0.5, inward: float = 1.0) -> Rule:
    """Scale the radial part of the update, and set the length of w accordingly.

    The radial part e.w / |w| is multiplied by `outward` if it is positive, else by `inward`. The
    length becomes (1 - a wd_ratio) |w| + that product, without what the tangent part adds.
    Source: radial brake, KellerJordan/modded-nanogpt, pull request 294 (2026), which has no decay.
    """
    outward, inward = _checked("outward", outward), _checked("inward", inward)
    return Rule(_brake, (("outward", outward), ("inward", inward)))


def _brake(xp, change, state, setting, *, outward, inward):
    ww, ew, ee = change
    ones, length = xp.ones_like(ww), xp.sqrt(ww)
    radial = xp.where(ew > 0, outward * ones, inward * ones)
    share = 1 - setting.lr * setting.decay * setting.wd_ratio
    target = xp.clip(share * length + radial * _quotient(xp, ew, length), min=setting.eps)
    first = share + (radial - 1) * _quotient(xp, ew, ww)  # before the length is set: first w + e
    rescale = _quotient(xp, target, xp.sqrt(first**2 * ww + 2 * first * ew + ee))
    return Factors(rescale, 1 - rescale * first), state


def fixed_norm(norm: Norm = "initial", *, normalize_update: bool = True) -> Rule:
    """Hold the norm R of every unit: w+ = R (w + lr R e/|e|) / |w + lr R e/|e||, without decay.

    Without `normalize_update`, w+ = R (w + e) / |w + e|. "initial" is the norm before the first
    step. Source: Wen et al., "Hyperball Optimization", 2025, with one R per matrix.
    """
    _check_norm(norm)
    arguments = ("norm", norm), ("normalize_update", normalize_update)
    return Rule(_fixed_norm, arguments, _kept(norm), needs_decision=True)


def _fixed_norm(xp, change, state, setting, *, norm, normalize_update):
    ww, ew, ee = change
    norm, state = _held(xp, norm, state, ww)
    stretch = setting.lr * _quotient(xp, norm, xp.sqrt(ee)) if normalize_update else 1.0
    rescale = _quotient(xp, norm, xp.sqrt(ww + 2 * stretch * ew + stretch**2 * ee))
    return Factors(rescale * stretch, 1 - rescale), state


def relative() -> Rule:
    """Make every update as long as its weight: w+ = (1 - a) w + lr |w| e/|e|.

    Source: the trust ratio |w|/|u| of You et al., "LARS" (2017) and "LAMB" (2020), with decoupled
    decay.
    """
    return Rule(_relative, needs_decision=True)


def _relative(xp, change, state, setting):
    ww, _, ee = change
    stretch = setting.lr * _quotient(xp, xp.sqrt(ww), xp.sqrt(ee))
    return Factors(stretch, setting.lr * setting.decay * xp.ones_like(ww)), state


def update_floor(ratio: float) -> Rule:
    """Lengthen updates that are short for their weight: u max(1, ratio |w|/|u|), decay as usual.

    Source: u/w floor (whole matrices) and row floor, KellerJordan/modded-nanogpt, track 3 (2026).
    """
    return Rule(_update_floor, (("ratio", _checked("ratio", ratio)),), needs_decision=True)


def _update_floor(xp, change, state, setting, *, ratio):
    ww, _, ee = change
    stretch = ratio * setting.lr * _quotient(xp, xp.sqrt(ww), xp.sqrt(ee))
    return Factors(xp.clip(stretch, min=1.0), setting.lr * setting.decay * xp.ones_like(ww)), state


def rotational(smoothing: float = 0.9) -> Rule:
    """Turn every unit by the angle of AdamW's equilibrium on average, at its initial norm R.

    w+ = R (w + angle R t/rms(t)) / |...|, where t is the tangent part of -u, rms(t) the root of the
    running mean of |t|^2 with bias correction, and angle = sqrt(2 lr decay (1-beta)/(1+beta)).
    Units without decay take the plain step.
    Source: Kosson et al., "Rotational Equilibrium", ICML 2024, without their centering of w and u.
    """
    if not 0 <= _checked("smoothing", smoothing) < 1:
        raise ValueError(f"smoothing must be in [0, 1), got {smoothing!r}")
    state = ("norm_sq", "tangent_sq", "tangent_weight")
    return Rule(_rotational, (("smoothing", smoothing),), state, needs_decision=True)


def _rotational(xp, change, state, setting, *, smoothing):
    ww, ew, ee = change
    lr = setting.lr * xp.ones_like(ww)
    c = _quotient(xp, ew, ww)
    norm, state = _held(xp, "initial", state, ww)
    tangent_sq = xp.clip(ee - c * ew, min=0.0)
    mean = smoothing * state["tangent_sq"] + (1 - smoothing) * _quotient(xp, tangent_sq, lr**2)
    weight = smoothing * state["tangent_weight"] + (1 - smoothing)
    angle = xp.sqrt(2 * lr * setting.decay * matched(setting.beta))
    stretch = angle * _quotient(xp, norm, lr * xp.sqrt(mean / weight))
    rescale = _quotient(xp, norm, xp.sqrt(ww + stretch**2 * tangent_sq))
    rescale = xp.where(angle > 0, rescale, nan * rescale)
    state |= {"tangent_sq": mean, "tangent_weight": weight}
    return Factors(rescale * stretch, 1 - rescale * (1 - stretch * c)), state


def corrected_decay(max_lr: float) -> Rule:
    """Decay by lr^2 decay / max_lr, so that a schedule does not change the equilibrium norm.

    Source: AdamC, Defazio, "Why Gradients Rapidly Increase Near the End of Training", 2025.
    """
    max_lr = _checked("max_lr", max_lr, positive=True)
    return Rule(_corrected_decay, (("max_lr", max_lr),), needs_decision=True, linear=True)


def _corrected_decay(xp, change, state, setting, *, max_lr):
    shrink = setting.lr * setting.lr * setting.decay / max_lr
    return Factors(None, shrink * xp.ones_like(change.ww)), state


def target_norm(norm: Norm = "initial") -> Rule:
    """Decay towards a norm R instead of 0: w+ = w - a (1 - R/|w|) w + e.

    Source: Loshchilov, "Weight Norm Control", 2023, equation 3.
    """
    _check_norm(norm)
    return Rule(_target_norm, (("norm", norm),), _kept(norm), needs_decision=True, linear=True)


def _target_norm(xp, change, state, setting, *, norm):
    norm, state = _held(xp, norm, state, change.ww)
    beyond = 1 - _quotient(xp, norm, xp.sqrt(change.ww))
    return Factors(None, setting.lr * setting.decay * beyond), state


def bounded_norm(norm: Norm = "initial", rate: float = 1.0) -> Rule:
    """Bound |w|^2 by norm^2, with a Lagrange multiplier per unit in place of decay.

    multiplier <- max(0, multiplier + rate (|w + e|^2 - norm^2)); w+ = (1 - 2 multiplier) (w + e). A
    step takes at most half of w.
    Source: Franke et al., "Constrained Parameter Regularization", NeurIPS 2024, l2 norm.
    """
    _check_norm(norm)
    arguments = ("norm", norm), ("rate", _checked("rate", rate))
    return Rule(_bounded_norm, arguments, (*_kept(norm), "multiplier"), needs_decision=True)


def _bounded_norm(xp, change, state, setting, *, norm, rate):
    ww, ew, ee = change
    norm, state = _held(xp, norm, state, ww)
    excess = ww + 2 * ew + ee - norm**2
    multiplier = xp.clip(state["multiplier"] + rate * excess, min=0.0)
    share = xp.clip(2 * multiplier, max=0.5)
    return Factors(1 - share, share), state | {"multiplier": multiplier}


def _held(xp, norm, state, ww):
    """The norm to hold [units], which may be the one before the rule first acted; the state."""
    if norm != "initial":
        return norm * xp.ones_like(ww), state
    norm_sq = xp.where(state["norm_sq"] > 0, state["norm_sq"], ww)
    return xp.sqrt(norm_sq), state | {"norm_sq": norm_sq}


def _kept(norm: Norm) -> tuple[str, ...]:
    return ("norm_sq",) if norm == "initial" else ()


def _quotient(xp, x, y):
    """Divide x by y; 0 where y is 0."""
    divides = y != 0
    return xp.where(divides, x / xp.where(divides, y, xp.ones_like(y)), xp.zeros_like(y))


def _check_norm(norm: Norm) -> None:
    if norm != "initial":
        _checked("norm", norm, expected='"initial" or a finite number > 0', positive=True)


def _checked(name: str, value: Any, expected: str = "", *, positive: bool = False) -> float:
    """The value of an argument; a ValueError if it is not a finite number >= 0, or > 0."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if fits and (value >= 0 if not positive else value > 0):
        return float(value)
    expected = expected or f"a finite number {'>' if positive else '>='} 0"
    raise ValueError(f"{name} must be {expected}, got {value!r:.200}")
