"""Optimizers of the user: factories in a file or a module, checked before they are used."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from torch.optim import Optimizer

from tangential_lab.training.optimizers.entries import Family, OptimizerEntry, Space, factory
from tangential_lab.training.user_files import (
    describe_error,
    load_function,
    read_with_neighbours,
)

USER_COLOURS = ("#332288", "#3a9a8a", "#661100", "#5f93c8", "#aa4466", "#777777")


def user_optimizer(number: int, name: str, source: str, about: str | None = None) -> OptimizerEntry:
    """Import a user's optimizer; this runs its file or module.

    Args:
        number: Index among the user's optimizers, from 0; it determines the colour.
        name: Name of the optimizer.
        source: "module:factory" or "FILE.py:FACTORY". The factory takes parameter groups (dicts
            with "params", as torch's optimizers take them), and lr and weight_decay (or the
            settings of its space) as keywords; it returns a `torch.optim.Optimizer` that steps
            without a closure. Its steps may change only what is in its `state_dict()` and the
            global generators of torch, NumPy and `random`: a trial that is interrupted continues
            from there. The factory may have these attributes:
            `space`, {"lr": (low, high), ...}, searched log-uniformly; `family`, "sgd" or "adam"
            (the default): without tuning, it runs at the published settings of its family, and
            without `space`, it is searched around them; `baseline`, the optimizer to compare with.
        about: Its description in the study's plan. If the code has changed since, it is not run.

    Raises:
        ValueError: it cannot be loaded or has changed since the study started; its space has
            wrong bounds or lacks a setting that the factory needs; or its family or baseline is
            wrong.
    """
    build, described = _load(name, source, about)
    family: Any = getattr(build, "family", "adam")
    if family not in get_args(Family):
        raise ValueError(f"{name}.family must be {' or '.join(get_args(Family))}, got {family!r}")
    baseline = getattr(build, "baseline", "sgd" if family == "sgd" else "adamw")
    if not (baseline is None or isinstance(baseline, str)):
        raise ValueError(f"{name}.baseline must be the name of an optimizer, got {baseline!r}")
    space = getattr(build, "space", None)
    space = None if space is None else _checked_space(name, space)
    if space:
        _check_settings(name, build, space)
    colour = USER_COLOURS[number % len(USER_COLOURS)]
    return OptimizerEntry(factory(build), described, baseline, family, colour, space)


def _load(name: str, source: str, about: str | None) -> tuple[Callable[..., Optimizer], str]:
    """The factory, and its description: the source and a fingerprint of the code."""
    module, _, function = source.rpartition(":")
    if module.endswith(".py"):
        path = Path(module)
        code = read_with_neighbours(path)
        described = _describe(source, code)
        _check_unchanged(name, about, described)  # before the file is run
        return load_function(path, function, code[path]), described
    build = _import_factory(name, source)
    names = (module, getattr(build, "__module__", module))
    modules = [sys.modules.get(name) for name in names]
    paths = {Path(file) for module in modules if (file := getattr(module, "__file__", None))}
    described = _describe(source, {path: path.read_bytes() for path in paths})
    _check_unchanged(name, about, described)
    return build, described


def _import_factory(name: str, source: str) -> Callable[..., Any]:
    module, _, function = source.rpartition(":")
    try:
        build = getattr(import_module(module), function)
    except (Exception, SystemExit) as error:
        traceback = error.__traceback__ and error.__traceback__.tb_next  # without this frame
        raise ValueError(
            f"cannot import optimizer {name!r} from {source!r} "
            f"({describe_error(error.with_traceback(traceback))}): "
            "expected module:factory or FILE.py:FACTORY"
        ) from error
    if not callable(build):
        raise ValueError(f"optimizer {name!r}: {source!r} must be a function, got {build!r:.200}")
    return build


def _describe(source: str, code: Mapping[Path, bytes]) -> str:
    digest = sha256(b"".join(code[path] for path in sorted(code)))
    return f"{source} ({digest.hexdigest()[:12]})"


def _check_unchanged(name: str, planned: str | None, described: str) -> None:
    if planned is not None and planned != described:
        raise ValueError(
            f"optimizer {name!r} was {planned} when the study was started, but on this "
            f"machine it is {described}: start the study again with `tangential compare`"
        )


def _check_settings(name: str, build: Callable[..., Any], settings: Iterable[str]) -> None:
    """Raise ValueError if the factory needs a setting that it will not get."""
    try:
        parameters = [*inspect.signature(build).parameters.values()][1:]  # without the groups
    except (TypeError, ValueError):
        return
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.kind in named and p.default is p.empty]
    if missing := [setting for setting in needed if setting not in settings]:
        raise ValueError(f"{name}.space lacks {', '.join(missing)}, which the factory needs")


def _checked_space(name: str, space: Any) -> Space:
    """The search space, with bounds as Python floats.

    Raises:
        ValueError: it is not a dict, or some bounds are not positive, finite and ascending.
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
