"""The amended change of one weight as a pure function, for every array library.

`tangential.optax` and `tangential.keras` use it. For torch optimizers, `backends` does the same for
many weights at once.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tangential import maths, radial
from tangential.maths import Array
from tangential.radial import State
from tangential.units import Layout, Units

VOTES = tuple(f"gate_{name}" for name in maths.Votes._fields)


class Amendment(NamedTuple):
    """How the steps of a weight are amended; after `latch` > 0 steps, decisions are final."""

    units: Units
    delta: Any
    setting: radial.Setting
    rule: radial.Rule
    latch: int

    @property
    def latches(self) -> bool:
        """Whether the gate decides, and only for the first steps."""
        return self.latch > 0 and self.units.projection == "auto"

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that are kept per unit; they start at 0."""
        return (*self.rule.state, *(VOTES if self.latches else ()))


class Exchange(NamedTuple):
    """How sums are completed where a weight is split between devices.

    `parts` adds up parts of units, `units` sums over different units.
    """

    parts: Callable[[Array], Array] = lambda x: x
    units: Callable[[Array], Array] = lambda x: x


def amended(
    xp: Any,
    w: Array,
    g: Array,
    e: Array,
    state: State,
    layout: Layout | None,
    how: Amendment,
    exchange: Exchange = Exchange(),  # noqa: B008
) -> tuple[Array, State]:
    """The change of a weight with decay, by gate and rule, and the rule's new state.

    Args:
        xp: The array library.
        w: The weight [shape], real, in at least float32.
        g: Its gradient [shape].
        e: What an optimizer would add to w [shape], before weight decay.
        state: The numbers of `how.names`, each [units].
        layout: Its units; None if it is never projected, so that it decays as in AdamW.
        how: The options.
        exchange: For the part of w that a device has.
    """
    if layout is None:
        return e - how.setting.lr * how.setting.decay * w, state
    total = lambda x: exchange.units(x.sum())
    ww, gg, gw, ew, ee = (
        exchange.parts(layout.dot(x, y)) for x, y in ((w, w), (g, g), (g, w), (e, w), (e, e))
    )
    gate, state = _decided(xp, maths.Moments(ww, gg, gw, ew), total, state, layout, how)
    change, kept = radial.Change(ww, ew, ee), {name: state[name] for name in how.rule.state}
    factors, new = radial.amended(xp, how.rule, gate, change, kept, total, how.setting)
    scaled = e if factors.scale is None else layout.spread(xp, factors.scale) * e
    return scaled - layout.spread(xp, factors.shrink) * w, state | new


def _decided(
    xp: Any,
    moments: maths.Moments,
    total: maths.Total,
    state: State,
    layout: Layout,
    how: Amendment,
) -> tuple[maths.Gate, State]:
    """The gate's decisions, and the state with its votes."""
    gate = maths.gate(
        xp,
        moments,
        total,
        unit_size=layout.unit_size,
        size=layout.size,
        projection=how.units.projection,
        delta=how.delta,
        eps=how.setting.eps,
    )
    if not how.latches:
        return gate, state
    votes = maths.Votes(*(state[name] for name in VOTES))
    wait = how.rule.needs_decision
    gate, votes = maths.latched(xp, gate, votes, steps=how.latch, wait=wait)
    return gate, state | dict(zip(VOTES, votes, strict=True))


def bias_corrections(xp: Any, count: Array, betas: tuple[Any, Any]) -> tuple[Array, Array]:
    """`maths.bias_corrections` of an array; in float32, 1 - b2**t would have five digits."""
    first, second = (-xp.expm1(count * _log(xp, beta)) for beta in betas)
    return first, xp.sqrt(second)


def share_of_decay(wd_ratio: Any, beta: Any) -> Any:
    """The `wd_ratio` as a number; a ValueError if it is another word than "matched"."""
    if not isinstance(wd_ratio, str):
        return wd_ratio
    if wd_ratio != "matched":
        raise ValueError(
            f'wd_ratio must be a finite number >= 0, or "matched", got {wd_ratio!r:.200}'
        )
    return maths.matched(beta)


def _log(xp: Any, beta: Any) -> Any:
    if isinstance(beta, (int, float)):  # in float64
        return math.log(beta) if beta > 0 else -math.inf
    return xp.log(beta)
