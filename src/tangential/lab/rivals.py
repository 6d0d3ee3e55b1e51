"""The optimizers that are compared. A rival is a factory and a search space."""

import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential.lab.source import in_file

Groups = list[dict[str, Any]]
Space = dict[str, tuple[float, float]]


class Rival(NamedTuple):
    """An optimizer in a comparison.

    `build` takes groups of weights, and a point of the space as keywords. The laboratory's own
    rivals are told for every group whether it is `scale_invariant`.
    """

    build: Callable[..., Optimizer]
    about: str
    baseline: str | None  # the rival that it is measured against
    family: str  # "sgd" or "adam": tasks give their published settings by family
    colour: str
    space: Space | None = None  # searched log-uniformly; None: around the published settings


FAMILIES = ("sgd", "adam")
DECAYS = (1e-5, 1e-1)  # the same for all
WD_RATIO = 0.1  # AdamP's default


def _sgd(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return _built(cls, momentum=0.9, nesterov=True, **options)


def _built(cls: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return lambda groups, **point: cls([_bare(group) for group in groups], **point, **options)


def _bare(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "scale_invariant"}


def _decay_only(groups: Groups, lr: float, weight_decay: float) -> Optimizer:
    """AdamW with AdamP's decay, and without its projection."""
    ratios = [WD_RATIO if group["scale_invariant"] else 1.0 for group in groups]
    damped = [
        _bare(group) | {"weight_decay": weight_decay * ratio}
        for group, ratio in zip(groups, ratios, strict=True)
    ]
    return AdamW(damped, lr=lr)


def _rival(
    build: Callable[..., Optimizer], about: str, baseline: str | None, family: str, colour: str
) -> Rival:
    return Rival(build, about, baseline, family, colour)


# contrast of 3:1 or more with white; colour-blind readers tell apart those of the default ones
RIVALS = {
    "sgd": _rival(
        _sgd(SGD), "torch SGD, momentum .9, Nesterov, coupled decay", None, "sgd", "#1d99c5"
    ),
    "sgdp": _rival(_sgd(SGDP), "SGDP, momentum .9, Nesterov, wd_ratio .1", "sgd", "sgd", "#032aae"),
    "adam": _rival(_built(Adam), "torch Adam, coupled decay", None, "adam", "#7f7f78"),
    "adamw": _rival(_built(AdamW), "torch AdamW, decoupled decay", None, "adam", "#d67d07"),
    "adamp": _rival(_built(AdamP), "AdamP, wd_ratio .1", "adamw", "adam", "#af0401"),
    "adamp-matched": _rival(
        _built(AdamP, wd_ratio="matched"),
        "AdamP, wd_ratio 1/19: turns as fast as AdamW at equilibrium",
        "adamw",
        "adam",
        "#842f73",
    ),
    "adamp-projection-only": _rival(
        _built(AdamP, wd_ratio=1.0), "AdamP, wd_ratio 1: AdamW's decay", "adamw", "adam", "#c0699f"
    ),
    "adamw-decay-only": _rival(
        _decay_only,
        "AdamW, a tenth of the decay on the scale-invariant weights: no projection",
        "adamw",
        "adam",
        "#7d8500",
    ),
    "sgdp-published": _rival(
        _sgd(SGDP, project_buffer=True),
        "SGDP as published: projects its momentum, too",
        "sgd",
        "sgd",
        "#00916a",
    ),
}
DEFAULT = ("sgd", "sgdp", "adam", "adamw", "adamp", "adamp-matched")
OTHERS = ("#332288", "#3a9a8a", "#661100", "#5f93c8", "#aa4466", "#777777")  # a user's rivals


def around(published: dict[str, float]) -> Space:
    """Where a rival is searched that has no space of its own: a decade either side of this lr.

    >>> around({"lr": 1e-3, "weight_decay": 0.0})
    {'lr': (0.0001, 0.01), 'weight_decay': (1e-05, 0.1)}
    """
    return {"lr": (published["lr"] / 10, published["lr"] * 10), "weight_decay": DECAYS}


def grouped(
    groups: Groups, model: nn.Module, invariant: frozenset[str], lr: float | None
) -> Groups:
    """Groups parted into scale-invariant weights and others, `lr_scale` put into effect."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    parted = []
    for group in groups:
        options = {k: v for k, v in group.items() if k not in ("params", "lr_scale")}
        if lr is not None and "lr_scale" in group:
            options["lr"] = lr * group["lr_scale"]
        for kind in (True, False):
            params = [p for p in group["params"] if (names.get(p) in invariant) is kind]
            if params:
                parted.append({"params": params, **options, "scale_invariant": kind})
    return parted


def of_user(number: int, name: str, source: str) -> Rival:
    """A rival of the user's.

    Args:
        number: Of the user's rivals, from 0: gives its colour.
        name: Of the rival.
        source: "module:factory" or "FILE.py:FACTORY". The factory takes groups of weights, and
            lr and weight_decay (or what its space has) as keywords. It may have attributes:
            `space` {"lr": (low, high), ...}, searched log-uniformly; `family`, "sgd" or "adam" (the
            default), whose settings it has where nothing is tuned, and around which it is searched
            where it has no space; `baseline`, the name of a rival.

    Raises:
        ValueError: there is no such factory, its space has bounds that are no positive, rising
            numbers, or its family is unknown.
    """
    build = _factory(name, source)
    family = getattr(build, "family", "adam")
    if family not in FAMILIES:
        raise ValueError(f"{name}.family is {family!r}, allowed are {' and '.join(FAMILIES)}")
    space = getattr(build, "space", None)
    for key, (low, high) in (space or {}).items():
        if not 0 < low < high:
            raise ValueError(f"{name}.space[{key!r}] is {low, high}, allowed is 0 < low < high")
    code = sha256(_code(build, source)).hexdigest()[:12]
    baseline = getattr(build, "baseline", "sgd" if family == "sgd" else "adamw")
    colour = OTHERS[number % len(OTHERS)]
    return Rival(_built(build), f"{source} ({code})", baseline, family, colour, space)


def _code(build: Callable[..., Optimizer], source: str) -> bytes:
    """The file that is named, or those of the module that is named and of the factory's own."""
    where = source.rpartition(":")[0]
    if where.endswith(".py"):
        return Path(where).read_bytes()
    modules = [sys.modules.get(name) for name in (where, getattr(build, "__module__", where))]
    files = {file for module in modules if (file := getattr(module, "__file__", None))}
    return b"".join(Path(file).read_bytes() for file in sorted(files))


def _factory(name: str, source: str) -> Callable[..., Optimizer]:
    where, _, what = source.rpartition(":")
    if where.endswith(".py"):
        return in_file(Path(where), what)
    try:
        return getattr(import_module(where), what)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"rival {name} is {source!r}, which is not to be had ({error}): "
            "allowed are module:factory and FILE.py:FACTORY"
        ) from error
