"""Users' own optimizers: factories in their Python files and modules."""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from tangential_lab.training.optimizers.entries import FAMILIES, OptimizerEntry, Space, factory
from tangential_lab.training.user_code import import_factory, load_function, read_with_neighbours

USER_COLOURS = ("#332288", "#3a9a8a", "#661100", "#5f93c8", "#aa4466", "#777777")


def user_optimizer(number: int, name: str, source: str, about: str | None = None) -> OptimizerEntry:
    """Import a user's optimizer; this runs its file or module.

    Args:
        number: Index among the user's optimizers, from 0; it determines the colour.
        name: Name of the optimizer.
        source: "module:factory" or "FILE.py:FACTORY". The factory takes parameter groups (dicts
            with "params", as torch's optimizers take them), and lr and weight_decay (or the
            names of its space) as keywords; it returns a `torch.optim.Optimizer` that steps
            without a closure. Its steps may change only what is in its `state_dict()` and the
            global generators of torch, NumPy and `random`: an interrupted trial continues from
            there. The factory may have the attributes `space`, {"lr": (low, high), ...}, searched
            log-uniformly; `family`, "sgd" or "adam" (the default), at or around whose published
            point it runs without tuning or without `space`; `baseline`, the one to compare with.
        about: Its description in the study's plan. If the code has changed since, it is not run.

    Raises:
        ValueError: it cannot be loaded, has changed, or one of its attributes is wrong.
    """
    module, _, function = source.rpartition(":")
    if module.endswith(".py"):
        path = Path(module)
        code = read_with_neighbours(path)
        described = _described(name, source, code, about)  # before the file is run
        build = load_function(path, function, code[path])
    else:
        build = import_factory(name, source)
        modules = map(sys.modules.get, (module, getattr(build, "__module__", module)))
        paths = [Path(file) for m in modules if (file := getattr(m, "__file__", None))]
        code = {path: path.read_bytes() for path in paths}
        described = _described(name, source, code, about)
    family: Any = getattr(build, "family", "adam")
    if family not in FAMILIES:
        raise ValueError(f"{name}.family must be {' or '.join(FAMILIES)}, got {family!r}")
    usual = ("sgd",) if family == "sgd" else ("adamw", "adam")
    baseline = getattr(build, "baseline", usual)
    if not (baseline is None or baseline is usual or isinstance(baseline, str)):
        raise ValueError(f"{name}.baseline must be the name of an optimizer, got {baseline!r}")
    baselines = (baseline,) if isinstance(baseline, str) else baseline or ()
    colour, space = USER_COLOURS[number % len(USER_COLOURS)], _checked_space(name, build)
    return OptimizerEntry(factory(build), described, colour, baselines, family, space)


def _described(name: str, source: str, code: Mapping[Path, bytes], planned: str | None) -> str:
    """The source and a fingerprint of the code; ValueError if it is not as planned."""
    digest = sha256(b"".join(code[path] for path in sorted(code)))
    described = f"{source} ({digest.hexdigest()[:12]})"
    if planned not in (None, described):
        raise ValueError(
            f"optimizer {name!r} was {planned} when the study was started, but on this "
            f"machine it is {described}: start the study again with `tangential compare`"
        )
    return described


def _checked_space(name: str, build: Callable[..., Any]) -> Space | None:
    """The factory's search space, with bounds as Python floats; None if it has none."""
    space = getattr(build, "space", None)
    if space is None:
        return None
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
    missing = [key for key in _needed_keywords(build) if key not in checked]
    if checked and missing:
        raise ValueError(f"{name}.space lacks {', '.join(missing)}, which the factory needs")
    return checked


def _needed_keywords(build: Callable[..., Any]) -> list[str]:
    """The arguments without a default, except the groups; [] if the signature is unknown."""
    try:
        parameters = [*inspect.signature(build).parameters.values()][1:]
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]
