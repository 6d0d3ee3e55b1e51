"""Optimizers that move where it matters: along the sphere."""

from tangential.invariance import audit, param_groups
from tangential.monitor import Monitor
from tangential.optim import SGDP, AdamP

__all__ = ["SGDP", "AdamP", "Monitor", "audit", "param_groups"]
