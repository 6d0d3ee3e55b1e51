"""How a record was produced, and what must be the same on all machines of a study."""

import ast
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tangential.backends import native
from tangential_lab import experiments
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.storage.urls import command_without_passwords
from tangential_lab.training import Task

PACKAGES = (
    *("tangential", "torch", "torchvision", "accelerate", "optuna", "numpy"),
    *("scikit-learn", "scipy", "pytorch-metric-learning", "torchmetrics", "soundfile"),
)
SOURCES = Path(__file__).parents[2]  # the folder of our two packages


def checked_task(plan: Plan, data: Path | None) -> Task:
    """The plan's task; ValueError if this machine has other data, packages or code."""
    task = experiments.make(plan.task, data, plan.options)
    if plan.data[1] != task.data.checksum:
        raise ValueError(
            f"the study's data have the checksum {plan.data[1]}, but those on this machine have "
            f"{task.data.checksum} ({task.data.about}): pass the same data as --data"
        )
    for name, value in (("versions", versions()), ("source", source(plan.task))):
        if plan.settings[name] != value:
            raise ValueError(
                f"the study was started with {name} {plan.settings[name]}, this machine has "
                f"{value}: install the same, or start another study (--study NAME)"
            )
    return task


def provenance() -> dict[str, Any]:
    """How the record of a trial that finishes now was produced."""
    return {
        "versions": versions() | {"python": platform.python_version()},
        "commit": commit(),
        "kernel": kernel(),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "command": command_without_passwords(["tangential", *sys.argv[1:]]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@cache
def versions() -> dict[str, str]:
    """Versions of the installed packages, without the suffix for the device."""
    installed = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name).split("+")[0]
    return installed


@cache
def source(task: str) -> str:
    """Fingerprint of our code that affects the trials of a task: all modules that they import.

    Docstrings, comments and formatting do not change it.
    """
    names, code = {"tangential_lab.training.trial"}, dict[str, Any]()
    if experiments.is_user_task(task):
        code[task] = experiments.code_of(task)
    else:
        names.add(f"tangential_lab.experiments.{task}")
    while names:
        name = names.pop()
        path = SOURCES.joinpath(*name.split("."))
        file = next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)
        if name not in code and file is not None:
            tree = ast.parse(file.read_bytes())
            names |= _imports(tree)
            code[name] = _syntax(tree)
    return sha256(repr(sorted(code.items())).encode()).hexdigest()[:12]


def _syntax(node: Any) -> Any:
    """A syntax tree as lists, without docstrings; unlike `ast.dump`, equal for all Pythons."""
    if isinstance(node, list):
        return [_syntax(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return node
    fields = ((name, _syntax(value)) for name, value in ast.iter_fields(node))
    return [type(node).__name__, *(field for field in fields if field[1] not in (None, []))]


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _imports(tree: ast.Module) -> set[str]:
    """Names that the code imports from us: of modules, and of what is in them."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names |= {module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)}
    return {name for name in names if name.split(".")[0] in ("tangential", "tangential_lab")}


@cache
def commit() -> str | None:
    """The git commit of the code, with "+" if files have changed since; None outside git."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    with suppress(OSError, subprocess.SubprocessError):
        described = subprocess.check_output(
            command, cwd=SOURCES, stderr=subprocess.DEVNULL, text=True, timeout=10
        )
        return described.strip() or None
    return None


@cache
def kernel() -> str:
    """The compiled kernel's instruction set and fingerprint: both may change the last digit."""
    if native.kernel is None:
        return "none"
    compiled = Path(native.kernel.__file__).read_bytes()
    return f"{native.kernel.instruction_sets[0]} {sha256(compiled).hexdigest()[:12]}"
