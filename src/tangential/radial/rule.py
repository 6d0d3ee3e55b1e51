"""What a rule for the radial part is given and what it answers, and how a step uses it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tangential.maths import Array, Gate, Total

State = dict[str, Array]


class Change(NamedTuple):
    """Inner products per unit, each [units], of a weight w and its change e."""

    ww: Array
    ew: Array
    ee: Array


class Setting(NamedTuple):
    """The options of a step: `decay` per unit of `lr`, and `beta`, the decay rate of momentum."""

    lr: Any
    decay: Any
    wd_ratio: Any
    beta: Any
    eps: Any


class Factors(NamedTuple):
    """The factors [units] in w+ = w + scale e - shrink w; a `scale` of None stands for 1."""

    scale: Array | None
    shrink: Array


class Rule(NamedTuple):
    """A rule for the radial part of an update.

    Attributes:
        formula: (xp, change, state, setting, **arguments) -> (factors, state). Factors that are not
            finite say that the rule does not apply.
        arguments: Names and values.
        state: Names of the numbers that it keeps per unit; they start at 0.
        needs_decision: Whether it needs units that are projected at every step or never.
        linear: Whether `scale` is None, `shrink` is linear in ew, and nothing depends on ee.
    """

    formula: Callable[..., tuple[Factors, State]]
    arguments: tuple[tuple[str, Any], ...] = ()
    state: tuple[str, ...] = ()
    needs_decision: bool = False
    linear: bool = False


def amended(
    xp: Any,
    rule: Rule,
    gate: Gate,
    change: Change,
    state: State,
    total: Total,
    setting: Setting,
) -> tuple[Factors, State]:
    """The factors of a step and the rule's new state: by row or weight, as the gate has decided.

    The step is plain, w+ = (1 - a) w + e, where the gate does not fire, where w is 0, and where the
    rule does not apply. The state does not change there.
    """
    ones = xp.ones_like(change.ww)
    chosen = Change(*(xp.where(gate.weight, total(x), x) for x in change))
    (scale, shrink), new = rule.formula(xp, chosen, state, setting, **dict(rule.arguments))
    fits = (gate.row | gate.weight) & (chosen.ww > 0) & xp.isfinite(shrink)
    if scale is not None:
        fits = fits & xp.isfinite(scale)
        scale = xp.where(fits, scale, ones)
    shrink = xp.where(fits, shrink, setting.lr * setting.decay * ones)
    return Factors(scale, shrink), {name: xp.where(fits, new[name], state[name]) for name in state}
