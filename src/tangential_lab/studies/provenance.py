"""What a record must say of how it came about, and what must not differ within a study."""

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
from tangential_lab.studies.database import command_without_passwords

PACKAGES = (
    *("tangential", "torch", "torchvision", "accelerate", "optuna", "numpy"),
    *("scikit-learn", "scipy", "pytorch-metric-learning", "torchmetrics", "soundfile"),
)


@cache
def versions() -> dict[str, str]:
    """Of the packages that are here, without what says for which device they were built."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            continue
    return found


@cache
def source(task: str) -> str:
    """Fingerprint of the code that decides how a task's trial ends: all that it imports of ours."""
    modules = {"tangential_lab.training.trial", f"tangential_lab.experiments.{task}"}
    seen: dict[str, bytes] = {}
    while modules:
        name = modules.pop()
        spec = find_spec(name)
        if name in seen or spec is None or spec.origin is None:
            continue
        seen[name] = Path(spec.origin).read_bytes()
        modules |= _imports(seen[name])
    return sha256(b"".join(seen[name] for name in sorted(seen))).hexdigest()[:12]


def _imports(code: bytes) -> set[str]:
    """What modules of ours the code may import; of a name, whether it is a module is not known."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {
        name
        for name in found
        if name.split(".")[0] in ("tangential", "tangential_lab") and _is_module(name)
    }


def _is_module(name: str) -> bool:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # a name in a module that is no package
        return False
    return spec is not None and str(spec.origin).endswith(".py")


@cache
def commit() -> str | None:
    """The git commit of the code, with "+" where it has been changed since; None outside git."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
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
    """The compiled kernel's instruction set and fingerprint; both may decide the last digit."""
    if native.kernel is None:
        return "none"
    compiled = Path(native.kernel.__file__).read_bytes()
    return f"{native.kernel.instruction_sets[0]} {sha256(compiled).hexdigest()[:12]}"


def provenance(**own: Any) -> dict[str, Any]:
    """Of a record that is finished now; `own` is what the trial adds."""
    return {
        "versions": versions() | {"python": platform.python_version()},
        "commit": commit(),
        "kernel": kernel(),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "command": command_without_passwords(["tangential", *sys.argv[1:]]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **own,
    }
