"""What a parameter group may hold, and what is said where it does not."""

import math
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

PROJECTIONS = ("auto", "row", "weight", "off")
LOW_PRECISION = ("stochastic", "kahan")


def check(group: dict[str, Any]) -> None:
    """Check the value of every option in a parameter group; keys of the user's own pass.

    Raises:
        ValueError: names the option, its value and what is allowed.
    """
    for name, value in group.items():
        if name in ALLOWED and not ALLOWED[name][1](value):
            raise ValueError(f"{name} is {value!r}, allowed is {ALLOWED[name][0]}")
    if group.get("fused") and group.get("foreach"):
        raise ValueError("fused and foreach are both True, allowed is one of them")


def check_names(group: dict[str, Any], known: dict[str, Any]) -> None:
    """Check that no key of a group is a misspelt option; keys of the user's own pass.

    Raises:
        ValueError: names the key and the option it resembles.
    """
    for name in group.keys() - known.keys():
        if near := get_close_matches(name, known, n=1, cutoff=0.85):
            raise ValueError(f"unknown option {name!r} in a parameter group: is it {near[0]!r}?")


def _finite(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)


def _not_negative(x: Any) -> bool:
    return _finite(x) and x >= 0


def _fraction(x: Any) -> bool:
    return _finite(x) and 0 <= x < 1


def _rate(x: Any) -> bool:
    if not isinstance(x, Tensor):
        return _not_negative(x)
    unread = not x.is_cpu or torch.compiler.is_compiling()  # reading it would wait for the device
    return x.numel() == 1 and (unread or _not_negative(x.item()))


def _betas(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and len(x) == 2 and all(map(_fraction, x))


def _switch(x: Any) -> bool:
    return isinstance(x, bool)


NOT_NEGATIVE = ("a finite number >= 0", _not_negative)
SWITCH = ("True or False", _switch)
ALLOWED = {
    "lr": ("a finite number >= 0, or a tensor of one", _rate),
    "betas": ("two numbers in [0, 1)", _betas),
    "momentum": ("a number in [0, 1)", _fraction),
    "dampening": ("a finite number", _finite),
    "eps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "delta": NOT_NEGATIVE,
    "wd_ratio": (
        'a finite number >= 0, or "matched"',
        lambda x: x == "matched" if isinstance(x, str) else _not_negative(x),
    ),
    "projection": (
        " or ".join(f'"{word}"' for word in PROJECTIONS),
        lambda x: isinstance(x, str) and x in PROJECTIONS,
    ),
    "row_axis": ("an integer", lambda x: isinstance(x, Integral)),
    "row_groups": ("an integer >= 1", lambda x: isinstance(x, Integral) and int(x) >= 1),
    "foreach": ("True, False or None", lambda x: x is None or _switch(x)),
    "fused": ("True, False or None", lambda x: x is None or _switch(x)),
    "low_precision": (
        'None or "stochastic" or "kahan"',
        lambda x: x is None or (isinstance(x, str) and x in LOW_PRECISION),
    ),
    "state_dtype": ("None or torch.float32", lambda x: x is None or x is torch.float32),
    "nesterov": SWITCH,
    "caution": SWITCH,
    "project_buffer": SWITCH,
    "maximize": SWITCH,
}
