"""The optimizers of a comparison."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tangential import SGDP, AdamP, project
from tangential.radial import Rule, brake, fixed_norm, rotational
from tangential_lab.training.optimizers.muon import MuonAndAdamW, hidden_matrices
from tangential_lab.training.optimizers.rotation import RescaledAdamW
from tangential_lab.training.task import ParamGroups, Task

Family = Literal["sgd", "adam"]  # a task gives its published points by family
FAMILIES: tuple[Family, ...] = get_args(Family)
Space = dict[str, tuple[float, float]]  # bounds of every name in a point

WD_RATIO = 0.1  # AdamP's default
MOMENTUM = 0.9  # of SGD and SGDP


class OptimizerEntry(NamedTuple):
    """An optimizer in a comparison.

    `build` takes parameter groups, and a point of the search space as keywords. Every group has
    the keys `scale_invariant` and `hidden`, True or False; if the task says so, `row_groups`, which
    only AdamP, SGDP, RescaledAdamW and projected optimizers know.
    """

    build: Callable[..., Optimizer]
    about: str
    colour: str
    baselines: tuple[str, ...] = ("adamw",)  # it is compared with the first that takes part
    family: Family = "adam"
    space: Space | None = None  # searched log-uniformly; None: around the published point
    differs_by_decay: bool = False  # without weight decay, it is the same as another entry
    leader: str | None = None  # the entry whose point and recorded angles it takes
    momentum: float = MOMENTUM  # of the family sgd

    @property
    def decay_multiplier(self) -> float:
        """How many times lr * weight_decay shrinks a weight per step: 1 / (1 - momentum) for SGD.

        SGD's decay is a part of the gradient, which momentum sums up; SGDP's is scaled to equal it.
        """
        return 1 / (1 - self.momentum) if self.family == "sgd" else 1.0

    def baseline(self, names: Collection[str]) -> str | None:
        """The optimizer that it is compared with, of those that take part in a study."""
        return next((name for name in self.baselines if name in names), None)


def factory(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    """A `build` function: `cls` with these options on top of a point of the search space."""
    dropped = {"scale_invariant"} if cls in (AdamP, SGDP) else {"scale_invariant", "row_groups"}
    return lambda groups, **point: cls(_without(groups, dropped), **point, **options)


def _without(groups: ParamGroups, dropped: set[str]) -> ParamGroups:
    return [{k: v for k, v in group.items() if k not in dropped} for group in groups]


def _decay_only(groups: ParamGroups, lr: float, weight_decay: float) -> Optimizer:
    """AdamW with AdamP's weight decay, and without its projection."""
    ratios = [WD_RATIO if group["scale_invariant"] else 1.0 for group in groups]
    pairs = zip(_without(groups, {"scale_invariant", "row_groups"}), ratios, strict=True)
    return AdamW([group | {"weight_decay": weight_decay * ratio} for group, ratio in pairs], lr=lr)


def _ruled(rule: Rule) -> Callable[..., Optimizer]:
    """A `build` function: AdamW with a rule for the radial part on the scale-invariant weights."""

    def build(groups: ParamGroups, lr: float, weight_decay: float) -> Optimizer:
        kinds = [{"projection": "row" if g["scale_invariant"] else "off"} for g in groups]
        parts = _without(groups, {"scale_invariant"})
        split = [part | kind for part, kind in zip(parts, kinds, strict=True)]
        inner = AdamW(split, lr=lr, weight_decay=0)
        return project(inner, weight_decay=weight_decay, radial=rule)

    return build


def _projected_muon(groups: ParamGroups, lr: float, weight_decay: float) -> Optimizer:
    inner = MuonAndAdamW(_without(groups, {"scale_invariant"}), lr, weight_decay=0)
    return project(inner, weight_decay=weight_decay)


def _sgd(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return factory(cls, momentum=MOMENTUM, nesterov=True, **options)


# contrast of 3:1 or more with white; colour-blind readers can tell the default ones apart
OPTIMIZERS = {
    "sgd-plain": OptimizerEntry(
        factory(SGD),
        "torch SGD without momentum, coupled decay",
        "#903cfc",
        (),
        "sgd",
        momentum=0.0,
    ),
    "sgd": OptimizerEntry(
        _sgd(SGD),
        "torch SGD, momentum .9, Nesterov, coupled decay",
        "#1d99c5",
        ("sgd-plain",),
        "sgd",
    ),
    "sgdp": OptimizerEntry(
        _sgd(SGDP), "SGDP, momentum .9, Nesterov, wd_ratio .1", "#032aae", ("sgd",), "sgd"
    ),
    "adam": OptimizerEntry(factory(Adam), "torch Adam, coupled decay", "#7f7f78", ()),
    "adamw": OptimizerEntry(factory(AdamW), "torch AdamW, decoupled decay", "#d67d07", ()),
    "adamp": OptimizerEntry(factory(AdamP), "AdamP, wd_ratio .1", "#af0401", ("adamw", "adam")),
    "adamp-matched": OptimizerEntry(
        factory(AdamP, wd_ratio="matched"),
        "AdamP, wd_ratio 1/19: turns as fast as AdamW at equilibrium",
        "#842f73",
        differs_by_decay=True,
    ),
    "adamp-projection-only": OptimizerEntry(
        factory(AdamP, wd_ratio=1.0),
        "AdamP, wd_ratio 1: AdamW's decay",
        "#c0699f",
        differs_by_decay=True,
    ),
    "adamw-decay-only": OptimizerEntry(
        _decay_only,
        "AdamW, a tenth of the decay on the scale-invariant weights: no projection",
        "#7d8500",
        differs_by_decay=True,
    ),
    "adamw-rescaled": OptimizerEntry(
        RescaledAdamW,
        "AdamW, its steps scaled to AdamP's angles, weight by weight and step by step",
        "#00848f",
        ("adamp",),
        leader="adamp",
    ),
    "adamw-retracted": OptimizerEntry(
        partial(RescaledAdamW, retract=True),
        "AdamW with AdamP's angles and constant norms",
        "#5b6d2f",
        ("adamp",),
        leader="adamp",
    ),
    "muon": OptimizerEntry(
        factory(MuonAndAdamW),
        "Muon on hidden matrices, at AdamW's step length; AdamW on the rest",
        "#2f6f3e",
    ),
    "muon-projected": OptimizerEntry(
        _projected_muon,
        "Muon and AdamW with AdamP's projection and weight decay, wd_ratio .1",
        "#a3195b",
        ("muon", "adamw"),
    ),
    "adamw-brake": OptimizerEntry(
        _ruled(brake()),
        "AdamW, half of the outward radial part (radial brake)",
        "#4d7c0f",
    ),
    "adamw-fixed-norm": OptimizerEntry(
        _ruled(fixed_norm()),
        "AdamW at constant norms, steps as long as lr times the norm (Hyperball)",
        "#6b4fbb",
    ),
    "adamw-rotational": OptimizerEntry(
        _ruled(rotational()),
        "AdamW at constant norms, turning as at its equilibrium: needs weight decay",
        "#b3541e",
    ),
    "sgdp-published": OptimizerEntry(
        _sgd(SGDP, project_buffer=True),
        "SGDP as published: projects its momentum, too",
        "#00916a",
        ("sgd",),
        "sgd",
    ),
}
DEFAULT_OPTIMIZERS = ("sgd", "sgdp", "adam", "adamw", "adamp", "adamp-matched")
ANALYSED_OPTIMIZERS = ("sgd-plain", "sgd", "sgdp", "adam", "adamp")


def split_groups(
    task: Task, model: nn.Module, invariant: frozenset[str], lr: float | None
) -> ParamGroups:
    """A model's groups, split by what is scale-invariant and hidden, with `lr_scale` applied.

    Args:
        task: Says which groups there are, and which layers are the first and last ones.
        model: The model.
        invariant: Names of its scale-invariant weights.
        lr: The learning rate, which `lr_scale` multiplies.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    hidden = hidden_matrices(model, task.ends)
    split = []
    for group in task.groups(model):
        options = {k: v for k, v in group.items() if k not in ("params", "lr_scale")}
        if lr is not None and "lr_scale" in group:
            options["lr"] = lr * group["lr_scale"]
        parts: dict[tuple[bool, bool], list[Tensor]] = {}
        for param in group["params"]:
            parts.setdefault((names.get(param) in invariant, param in hidden), []).append(param)
        for (is_invariant, is_hidden), params in sorted(parts.items(), reverse=True):
            kinds = {"scale_invariant": is_invariant, "hidden": is_hidden}
            split.append({"params": params, **options, **kinds})
    return split
