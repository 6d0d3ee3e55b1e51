"""Optimizers that move where it matters: along the sphere."""

from tangential.optimizers import SGDP, AdamP

__all__ = ["SGDP", "AdamP"]
