"""The optimizers that are compared. An optimizer is a factory and a search space."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential_lab.training import user_code as files
from tangential_lab.training.source import describe_error, load_function

ParamGroups = list[dict[str, Any]]
Space = dict[str, tuple[float, float]]


class OptimizerEntry(NamedTuple):
    """An optimizer in a comparison.

    `build` takes groups of weights, and a point of the space as keywords. The laboratory's own
    optimizers are told for every group whether it is `scale_invariant`.
    """

    build: Callable[..., Optimizer]
    about: str
    baseline: str | None  # the entry that it is measured against
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


def _decay_only(groups: ParamGroups, lr: float, weight_decay: float) -> Optimizer:
    """AdamW with AdamP's decay, and without its projection."""
    ratios = [WD_RATIO if group["scale_invariant"] else 1.0 for group in groups]
    damped = [
        _bare(group) | {"weight_decay": weight_decay * ratio}
        for group, ratio in zip(groups, ratios, strict=True)
    ]
    return AdamW(damped, lr=lr)


# contrast of 3:1 or more with white; colour-blind readers tell apart those of the default ones
OPTIMIZERS = {
    "sgd": OptimizerEntry(
        _sgd(SGD), "torch SGD, momentum .9, Nesterov, coupled decay", None, "sgd", "#1d99c5"
    ),
    "sgdp": OptimizerEntry(
        _sgd(SGDP), "SGDP, momentum .9, Nesterov, wd_ratio .1", "sgd", "sgd", "#032aae"
    ),
    "adam": OptimizerEntry(_built(Adam), "torch Adam, coupled decay", None, "adam", "#7f7f78"),
    "adamw": OptimizerEntry(_built(AdamW), "torch AdamW, decoupled decay", None, "adam", "#d67d07"),
    "adamp": OptimizerEntry(_built(AdamP), "AdamP, wd_ratio .1", "adamw", "adam", "#af0401"),
    "adamp-matched": OptimizerEntry(
        _built(AdamP, wd_ratio="matched"),
        "AdamP, wd_ratio 1/19: turns as fast as AdamW at equilibrium",
        "adamw",
        "adam",
        "#842f73",
    ),
    "adamp-projection-only": OptimizerEntry(
        _built(AdamP, wd_ratio=1.0), "AdamP, wd_ratio 1: AdamW's decay", "adamw", "adam", "#c0699f"
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
USER_COLOURS = (
    "#332288",
    "#3a9a8a",
    "#661100",
    "#5f93c8",
    "#aa4466",
    "#777777",
)  # a user's optimizers


def space_around(published: dict[str, float]) -> Space:
    """Where an optimizer is searched that has no space of its own: a decade either side of this lr.

    >>> around({"lr": 1e-3, "weight_decay": 0.0})
    {'lr': (0.0001, 0.01), 'weight_decay': (1e-05, 0.1)}
    """
    return {"lr": (published["lr"] / 10, published["lr"] * 10), "weight_decay": DECAYS}


def split_groups(
    groups: ParamGroups, model: nn.Module, invariant: frozenset[str], lr: float | None
) -> ParamGroups:
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


def user_optimizer(number: int, name: str, source: str, about: str | None = None) -> OptimizerEntry:
    """An optimizer of the user's. Its file, or its module, is run.

    Args:
        number: Of the user's optimizers, from 0: gives its colour.
        name: Of the optimizer.
        source: "module:factory" or "FILE.py:FACTORY". The factory takes groups of weights (dicts
            with "params", as torch's optimizers take them), and lr and weight_decay (or what its
            space has) as keywords; it returns a `torch.optim.Optimizer` that steps without a
            closure. All that its steps change must stand in its `state_dict()`, or come from the
            global generators of torch, NumPy and `random`: a trial that is interrupted goes on
            from there. The factory may have attributes:
            `space` {"lr": (low, high), ...}, searched log-uniformly; `family`, "sgd" or "adam" (the
            default), whose settings it has where nothing is tuned, and around which it is searched
            where it has no space; `baseline`, the name of the optimizer it is compared with.
        about: What the study says of it; if its file is another, it is not run.

    Raises:
        ValueError: there is no such factory, it cannot be loaded, it is another than the study's,
            its space has bounds that are not positive, finite and rising or lacks a setting that
            the factory needs, or its family or baseline is none.
    """
    where, _, what = source.rpartition(":")
    if where.endswith(".py"):
        path, code = Path(where), files.code(Path(where))
        ours = _about(source, code)
        _same(name, about, ours)  # before it is run
        build = load_function(path, what, code[path])
    else:
        build, ours = _of_module(name, source)
        _same(name, about, ours)
    family = getattr(build, "family", "adam")
    if family not in FAMILIES:
        raise ValueError(f"{name}.family must be {' or '.join(FAMILIES)}, got {family!r}")
    baseline = getattr(build, "baseline", "sgd" if family == "sgd" else "adamw")
    if not (baseline is None or isinstance(baseline, str)):
        raise ValueError(f"{name}.baseline must be the name of an optimizer, got {baseline!r}")
    space = getattr(build, "space", None)
    space = None if space is None else _space(name, space)
    if space:
        _check_settings(name, build, space)
    return OptimizerEntry(
        _built(build), ours, baseline, family, USER_COLOURS[number % len(USER_COLOURS)], space
    )


def _check_settings(name: str, build: Callable[..., Any], settings: Iterable[str]) -> None:
    """Raise ValueError if the factory needs a setting that it will not get."""
    try:
        parameters = [*inspect.signature(build).parameters.values()][1:]  # without the weights
    except (TypeError, ValueError):
        return
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.kind in named and p.default is p.empty]
    if missing := [setting for setting in needed if setting not in settings]:
        raise ValueError(f"{name}.space lacks {', '.join(missing)}, which the factory needs")


def _space(name: str, space: Any) -> Space:
    """The search space, checked, with Python's own numbers.

    Raises:
        ValueError: it is no dict, or the bounds of a setting are not positive, finite and rising.
    """
    if not isinstance(space, dict) or not all(isinstance(key, str) for key in space):
        raise ValueError(
            f'{name}.space must be a dict such as {{"lr": (1e-4, 1e-2)}}, got {space!r:.200}'
        )
    checked = {}
    for key, bounds in space.items():
        try:
            low, high = (float(bound) for bound in bounds if not isinstance(bound, (str, bool)))
        except (TypeError, ValueError, OverflowError, RuntimeError):
            low, high = math.nan, math.nan
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"{name}.space[{key!r}] must be two finite numbers 0 < low < high, "
                f"got {bounds!r:.200}"
            )
        checked[key] = low, high
    return checked


def _about(source: str, code: Mapping[Path, bytes]) -> str:
    """The source, and a fingerprint of its code."""
    digest = sha256(b"".join(code[path] for path in sorted(code)))
    return f"{source} ({digest.hexdigest()[:12]})"


def _same(name: str, known: str | None, about: str) -> None:
    if known is not None and known != about:
        raise ValueError(
            f"optimizer {name!r} was {known} when the study was started, here it is {about}: "
            "start the study again with `tangential compare`"
        )


def _of_module(name: str, source: str) -> tuple[Callable[..., Optimizer], str]:
    """The factory, and what it is: by the module that is named and the factory's own."""
    where, _, what = source.rpartition(":")
    try:
        build = getattr(import_module(where), what)
    except (Exception, SystemExit) as error:
        theirs = error.__traceback__ and error.__traceback__.tb_next
        raise ValueError(
            f"cannot import optimizer {name!r} from {source!r} "
            f"({describe_error(error.with_traceback(theirs))}): "
            "allowed are module:factory and FILE.py:FACTORY"
        ) from error
    if not callable(build):
        raise ValueError(f"optimizer {name!r}: {source!r} is {build!r:.200}, which is no function")
    factory: Callable[..., Any] = build
    modules = [sys.modules.get(name) for name in (where, getattr(build, "__module__", where))]
    paths = {Path(file) for module in modules if (file := getattr(module, "__file__", None))}
    return factory, _about(source, {path: path.read_bytes() for path in paths})


def space_of(entry: OptimizerEntry, published: Mapping[str, dict[str, float]]) -> Space:
    """Where an optimizer is searched, given a task's published settings by family."""
    return space_around(published[entry.family]) if entry.space is None else entry.space


def untuned_point(
    entry: OptimizerEntry, published: Mapping[str, dict[str, float]]
) -> dict[str, float]:
    """Its settings where nothing is tuned: the published ones, else the middle of its space."""
    space, known = space_of(entry, published), published[entry.family]
    return {name: known.get(name, math.sqrt(low * high)) for name, (low, high) in space.items()}
