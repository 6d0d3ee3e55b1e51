"""How a record was produced, and what must be the same on all machines of a study."""

import ast
import os
import platform
import subprocess
import sys
import time
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tangential.backends import native
from tangential_lab import experiments
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.storage import command_without_passwords
from tangential_lab.training import Task

PACKAGES = (
    *("tangential", "torch", "torchvision", "accelerate", "optuna", "numpy"),
    *("scikit-learn", "scipy", "pytorch-metric-learning", "torchmetrics", "soundfile"),
)


def checked_task(plan: Plan, data: Path | None) -> Task:
    """The plan's task, if this machine can run its trials.

    Raises:
        ValueError: this machine has other data, packages or code than the study started with.
    """
    task = experiments.make(plan.task, data, plan.options)
    if plan.data[1] != task.data.checksum:
        raise ValueError(
            f"the study's data have the checksum {plan.data[1]}, but those on this machine have "
            f"{task.data.checksum} ({task.data.about}): pass the same data as --data"
        )
    local = {"versions": versions(), "source": source(plan.task)}
    for name, value in local.items():
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
        try:
            installed[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
    return installed


@cache
def source(task: str) -> str:
    """Fingerprint of our code that affects the trials of a task: all modules that they import."""
    modules = {"tangential_lab.training.trial", f"tangential_lab.experiments.{task}"}
    contents: dict[str, bytes] = {}
    while modules:
        name = modules.pop()
        spec = find_spec(name)
        if name in contents or spec is None or spec.origin is None:
            continue
        contents[name] = Path(spec.origin).read_bytes()
        modules |= _imports(contents[name])
    return sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:12]


def _imports(code: bytes) -> set[str]:
    """Our modules that the code imports; an imported name may be a module, too."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = ("tangential", "tangential_lab")
    return {name for name in names if name.split(".")[0] in ours and _is_module(name)}


def _is_module(name: str) -> bool:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # a name in a module that is not a package
        return False
    return spec is not None and str(spec.origin).endswith(".py")


@cache
def commit() -> str | None:
    """The git commit of the code, with "+" if files have changed since; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


@cache
def kernel() -> str:
    """The compiled kernel's instruction set and fingerprint: both may change the last digit."""
    if native.kernel is None:
        return "none"
    compiled = Path(native.kernel.__file__).read_bytes()
    return f"{native.kernel.instruction_sets[0]} {sha256(compiled).hexdigest()[:12]}"
