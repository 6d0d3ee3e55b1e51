"""Optimizers that move where it matters: along the sphere."""

from tangential.invariance.audits import audit
from tangential.invariance.findings import param_groups
from tangential.monitor.monitor import Monitor
from tangential.optim.optimizers import SGDP, AdamP

__all__ = ["SGDP", "AdamP", "Monitor", "audit", "param_groups"]
