"""What happens to the radial part of an update, and so to the length of a weight: named rules.

An optimizer changes a weight w by e = -lr u, before weight decay. A rule needs three inner products
per unit, and answers with two factors per unit:

    w+ = w + scale e - shrink w

Rules are pure functions for every array library, as in `maths`. `amended` applies one to the units
that the gate has chosen.
"""

from tangential.radial.rule import Change, Factors, Rule, Setting, State, amended
from tangential.radial.rules import (
    bounded_norm,
    brake,
    corrected_decay,
    fixed_norm,
    relative,
    remove,
    rotational,
    target_norm,
    update_floor,
)

__all__ = [
    "Change",
    "Factors",
    "Rule",
    "Setting",
    "State",
    "amended",
    "bounded_norm",
    "brake",
    "corrected_decay",
    "fixed_norm",
    "relative",
    "remove",
    "rotational",
    "rule_of",
    "target_norm",
    "update_floor",
]

NAMED = (remove, brake, fixed_norm, relative, rotational, target_norm, bounded_norm)


def rule_of(rule: Rule | str) -> Rule:
    """The rule, which may be given as the name of one that needs no argument.

    >>> rule_of("fixed_norm").state
    ('norm_sq',)
    """
    named = {function.__name__: function for function in NAMED}
    if isinstance(rule, str) and rule in named:
        return named[rule]()
    if isinstance(rule, Rule):
        return rule
    raise ValueError(
        f"radial must be a rule of tangential.radial or one of {', '.join(map(repr, named))}, "
        f"got {rule!r:.200}"
    )
