"""The options of a parameter group: allowed values, and errors for all others.

A ValueError names the option, its value and what is expected.
"""

import math
from collections.abc import Callable
from difflib import get_close_matches
from numbers import Integral, Real
from operator import is_
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tangential import maths
from tangential.backends import LowPrecision, Projection, Rule, StepOptions, Units, rows_of

Group = dict[str, Any]
WdRatio = float | Literal["matched"]
StateDtype = torch.dtype | Literal["float32"]
Betas = tuple[float | Tensor, float | Tensor]


def storable(group: Group) -> Group:
    """The options in the types that a checkpoint keeps: `betas` a tuple, `state_dtype` a string."""
    if _is_pair(group.get("betas")):
        group = group | {"betas": tuple(group["betas"])}
    if group.get("state_dtype") is torch.float32:
        group = group | {"state_dtype": "float32"}
    integers = {k: int(group[k]) for k in ("row_axis", "row_groups") if _is_integer(group.get(k))}
    return group | integers


def among(arguments: dict[str, Any]) -> Group:
    """The options among the arguments of a constructor."""
    return {name: value for name, value in arguments.items() if name in ALLOWED}


def resolved(rule: Rule, group: Group) -> StepOptions:
    """The options of a group, checked, as a step takes them."""
    check(group)
    decay, lr, wd_ratio = float(group["weight_decay"]), group["lr"], group["wd_ratio"]
    if rule == "adam":
        first, second = group["betas"]
        rule_options: dict[str, Any] = {"betas": (float(first), float(second))}
        beta = rule_options["betas"][0]
    else:
        rule_options = {name: float(group[name]) for name in ("momentum", "dampening")}
        rule_options["project_buffer"] = group["project_buffer"]
        beta = rule_options["momentum"]
        decay = decay / (1 - beta)  # a decay tuned for torch's coupled SGD keeps its strength
    return StepOptions(
        rule=rule,
        lr=lr.reshape(()) if isinstance(lr, Tensor) else float(lr),
        eps=float(group["eps"]),
        decay=decay,
        wd_ratio=maths.matched(beta) if isinstance(wd_ratio, str) else float(wd_ratio),
        delta=float(group["delta"]),
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        caution=group["caution"],
        units=units_of(group),
        low_precision=group["low_precision"],
        wide_moments=group["state_dtype"] is not None,
        capturable=group["capturable"],
        foreach=group["foreach"],
        fused=group["fused"],
        **rule_options,
    )


class Resolved:
    """The options of one group; while every value is the same object, those of the last step."""

    def __init__(self) -> None:
        self.group: Group = {}
        self.options: Any = None

    def at_step(self, rule: Rule, group: Group) -> StepOptions:
        """What `resolved` returns."""
        known = self.group
        if [*group] == [*known] and all(map(is_, group.values(), known.values())):
            return self.options
        options = resolved(rule, group)
        is_fixed = all(_is_fixed(group.get(name)) for name in ALLOWED)
        self.group, self.options = (dict(group), options) if is_fixed else ({}, None)
        return options


def _is_fixed(x: Any) -> bool:
    """Whether x cannot change in place, as a tensor or a list can."""
    kinds = (float, int, bool, str, type(None), torch.dtype)
    return all(map(_is_fixed, x)) if type(x) is tuple else type(x) in kinds


def units_of(group: Group) -> Units:
    """The units of a group's weights."""
    return Units(group["projection"], group["row_axis"], group["row_groups"])


def check(group: Group) -> None:
    """Check the value of every option in a parameter group; unknown keys are allowed."""
    for name, value in group.items():
        if name not in ALLOWED or ALLOWED[name][1](value):
            continue
        if not _is_rounded_zero(name, value, group):
            raise ValueError(f"{name} must be {ALLOWED[name][0]}, got {_shown(value)}")
    if group.get("fused") and group.get("foreach"):
        raise ValueError("fused and foreach are both True: choose one of them")


def check_rows(group: Group, params: list[Tensor]) -> None:
    """Check every option, and that all weights have the rows that the options ask for."""
    check(group)
    for param in params:
        rows_of(param, units_of(group))


def check_new(group: Group, known: Group) -> None:
    """Check a group that a user adds: no misspelt option, no Nesterov step without momentum.

    Schedulers may turn the momentum to 0 later, as with torch.optim.SGD.
    """
    for name in group.keys() - known.keys():
        if near := get_close_matches(name, known, n=1, cutoff=0.85):
            raise ValueError(f"unknown option {name!r} in a parameter group: is it {near[0]!r}?")
    options = known | group
    if options["nesterov"] is True and options.get("momentum") == 0:
        raise ValueError("nesterov is True with momentum 0: choose a momentum above 0, such as 0.9")


def _is_number(x: Any, allows: Callable[[float], bool] = lambda _: True) -> bool:
    """Whether x is a finite number, or a tensor with one element, that `allows`.

    Values on other devices are not read, because that would wait for the device.
    """
    if type(x) is float:  # the usual type, without the price of asking an abstract class
        return math.isfinite(x) and allows(x)
    if isinstance(x, bool) or not isinstance(x, (Real, Tensor)):
        return False
    if isinstance(x, Tensor) and (x.numel() != 1 or x.is_complex() or x.dtype == torch.bool):
        return False
    if isinstance(x, Tensor) and not x.is_cpu:
        return True
    try:
        value = float(x)
    except OverflowError:  # an integer of over 308 digits
        return False
    return math.isfinite(value) and allows(value)


def _is_not_negative(x: Any) -> bool:
    return _is_number(x, lambda value: value >= 0)


def _is_fraction(x: Any) -> bool:
    return _is_number(x, lambda value: 0 <= value < 1)


def _is_pair(x: Any) -> bool:
    """Whether x is a sequence of two values, such as a tuple or a list."""
    if isinstance(x, (str, bytes, set, dict)):
        return False
    try:
        return len(x) == 2
    except TypeError:  # a number or a 0-d tensor
        return False


def _is_integer(x: Any) -> bool:
    return type(x) is int or (isinstance(x, Integral) and not isinstance(x, bool))


def _is_word(x: Any, words: tuple[Any, ...]) -> bool:
    return isinstance(x, str) and x in words


def _is_rounded_zero(name: str, value: Any, group: Group) -> bool:
    """Whether a scheduler meant 0, but rounding gave a value just below 0."""
    if name not in ("lr", "weight_decay", "momentum"):
        return False
    first = group.get(f"initial_{name}", 0)  # as torch's schedulers remember it
    slack = max(1e-12, 1e-6 * float(first)) if _is_not_negative(first) else 1e-12
    return _is_number(value, lambda v: -slack <= v < 0)


def _shown(value: Any) -> str:
    """The `repr` of a value, shortened if it is long."""
    try:
        text = repr(value)
    except Exception:  # a number of more digits than Python prints, or the user's own class
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _listed(words: tuple[Any, ...]) -> str:
    return " or ".join(f'"{word}"' for word in words)


PROJECTIONS, ROUNDINGS = get_args(Projection), get_args(LowPrecision)


NOT_NEGATIVE = ("a finite number >= 0", _is_not_negative)
SWITCH = ("True or False", lambda x: isinstance(x, bool))
CHOICE = ("True, False or None", lambda x: x is None or isinstance(x, bool))
ALLOWED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "lr": NOT_NEGATIVE,
    "betas": ("two numbers in [0, 1)", lambda x: _is_pair(x) and all(map(_is_fraction, x))),
    "momentum": ("a number in [0, 1)", _is_fraction),
    "dampening": ("a finite number", _is_number),
    "eps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "delta": NOT_NEGATIVE,
    "wd_ratio": (
        'a finite number >= 0, or "matched"',
        lambda x: x == "matched" if isinstance(x, str) else _is_not_negative(x),
    ),
    "projection": (_listed(PROJECTIONS), lambda x: _is_word(x, PROJECTIONS)),
    "row_axis": ("an integer", _is_integer),
    "row_groups": ("an integer >= 1", lambda x: _is_integer(x) and x >= 1),
    "foreach": CHOICE,
    "fused": CHOICE,
    "low_precision": (
        f"None or {_listed(ROUNDINGS)}",
        lambda x: x is None or _is_word(x, ROUNDINGS),
    ),
    "state_dtype": (
        'None, torch.float32 or "float32"',
        lambda x: x is None or x is torch.float32 or _is_word(x, ("float32",)),
    ),
    "nesterov": SWITCH,
    "caution": SWITCH,
    "project_buffer": SWITCH,
    "maximize": SWITCH,
    "capturable": SWITCH,
}
