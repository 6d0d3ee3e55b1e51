"""The optimizers of a comparison, and their search spaces."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential_lab.training.task import ParamGroups, Point

Family = Literal["sgd", "adam"]  # a task gives its published points by family
Space = dict[str, tuple[float, float]]  # bounds of every name in a point

WEIGHT_DECAYS = (1e-5, 1e-1)  # searched for every optimizer without a space of its own
WD_RATIO = 0.1  # AdamP's default


class OptimizerEntry(NamedTuple):
    """An optimizer in a comparison.

    `build` takes parameter groups, and a point of the search space as keywords. Every group has
    a key `scale_invariant`, True or False.
    """

    build: Callable[..., Optimizer]
    about: str
    baseline: str | None  # the entry it is compared with
    family: Family
    colour: str
    space: Space | None = None  # searched log-uniformly; None: around the published point


def factory(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    """A `build` function: `cls` with these options on top of a point of the search space."""
    return lambda groups, **point: cls(_without_mark(groups), **point, **options)


def _without_mark(groups: ParamGroups) -> ParamGroups:
    return [{k: v for k, v in group.items() if k != "scale_invariant"} for group in groups]


def _decay_only(groups: ParamGroups, lr: float, weight_decay: float) -> Optimizer:
    """AdamW with AdamP's weight decay, and without its projection."""
    ratios = [WD_RATIO if group["scale_invariant"] else 1.0 for group in groups]
    pairs = zip(_without_mark(groups), ratios, strict=True)
    return AdamW([group | {"weight_decay": weight_decay * ratio} for group, ratio in pairs], lr=lr)


def _sgd(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return factory(cls, momentum=0.9, nesterov=True, **options)


# contrast of 3:1 or more with white; colour-blind readers can tell the default ones apart
OPTIMIZERS = {
    "sgd": OptimizerEntry(
        _sgd(SGD),
        "torch SGD, momentum .9, Nesterov, coupled decay",
        None,
        "sgd",
        "#1d99c5",
    ),
    "sgdp": OptimizerEntry(
        _sgd(SGDP),
        "SGDP, momentum .9, Nesterov, wd_ratio .1",
        "sgd",
        "sgd",
        "#032aae",
    ),
    "adam": OptimizerEntry(factory(Adam), "torch Adam, coupled decay", None, "adam", "#7f7f78"),
    "adamw": OptimizerEntry(
        factory(AdamW), "torch AdamW, decoupled decay", None, "adam", "#d67d07"
    ),
    "adamp": OptimizerEntry(factory(AdamP), "AdamP, wd_ratio .1", "adamw", "adam", "#af0401"),
    "adamp-matched": OptimizerEntry(
        factory(AdamP, wd_ratio="matched"),
        "AdamP, wd_ratio 1/19: turns as fast as AdamW at equilibrium",
        "adamw",
        "adam",
        "#842f73",
    ),
    "adamp-projection-only": OptimizerEntry(
        factory(AdamP, wd_ratio=1.0),
        "AdamP, wd_ratio 1: AdamW's decay",
        "adamw",
        "adam",
        "#c0699f",
    ),
    "adamw-decay-only": OptimizerEntry(
        _decay_only,
        "AdamW, a tenth of the decay on the scale-invariant weights: no projection",
        "adamw",
        "adam",
        "#7d8500",
    ),
    "sgdp-published": OptimizerEntry(
        _sgd(SGDP, project_buffer=True),
        "SGDP as published: projects its momentum, too",
        "sgd",
        "sgd",
        "#00916a",
    ),
}
DEFAULT_OPTIMIZERS = ("sgd", "sgdp", "adam", "adamw", "adamp", "adamp-matched")


def space_around(published: Mapping[str, float]) -> Space:
    """The default search space: a tenth to ten times this lr, and all usual weight decays.

    >>> space_around({"lr": 1e-3, "weight_decay": 0.0})
    {'lr': (0.0001, 0.01), 'weight_decay': (1e-05, 0.1)}
    """
    return {"lr": (published["lr"] / 10, published["lr"] * 10), "weight_decay": WEIGHT_DECAYS}


def space_of(entry: OptimizerEntry, published: Mapping[str, Point]) -> Space:
    """The search space of an optimizer, given a task's published points by family."""
    return space_around(published[entry.family]) if entry.space is None else entry.space


def untuned_point(entry: OptimizerEntry, published: Mapping[str, Point]) -> Point:
    """The point without tuning: the published one, else the middle of the search space."""
    space, known = space_of(entry, published), published[entry.family]
    return {name: known.get(name, math.sqrt(low * high)) for name, (low, high) in space.items()}


def split_groups(
    groups: ParamGroups, model: nn.Module, invariant: frozenset[str], lr: float | None
) -> ParamGroups:
    """A model's groups, split into scale-invariant parameters and others, with `lr_scale` applied.

    Args:
        groups: Parameter groups, as `Task.groups` returns them.
        model: The model.
        invariant: Names of its scale-invariant weights.
        lr: The learning rate, which `lr_scale` multiplies.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    split = []
    for group in groups:
        options = {k: v for k, v in group.items() if k not in ("params", "lr_scale")}
        if lr is not None and "lr_scale" in group:
            options["lr"] = lr * group["lr_scale"]
        for kind in (True, False):
            params = [p for p in group["params"] if (names.get(p) in invariant) is kind]
            if params:
                split.append({"params": params, **options, "scale_invariant": kind})
    return split
