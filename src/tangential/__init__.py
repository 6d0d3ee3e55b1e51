"""Optimizers that move where it matters: along the sphere.

Names are imported when they are first used, because `tangential.optax` must work without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tangential.invariance import audit, param_groups
    from tangential.monitor import Monitor
    from tangential.optim import SGDP, AdamP, project

__all__ = ["SGDP", "AdamP", "Monitor", "audit", "param_groups", "project"]

HOMES = {
    "SGDP": "optim",
    "AdamP": "optim",
    "Monitor": "monitor",
    "audit": "invariance",
    "param_groups": "invariance",
    "project": "optim",
}
PACKAGES = (
    "backends",
    "files",
    "invariance",
    "maths",
    "monitor",
    "names",
    "optim",
    "radial",
    "units",
)


def __getattr__(name: str) -> Any:
    if name in PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *PACKAGES})
