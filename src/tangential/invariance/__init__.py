"""The audit: which weights of a model are scale-invariant."""

from tangential.invariance.audits import audit
from tangential.invariance.evidence import described
from tangential.invariance.findings import Audit, Line, param_groups
from tangential.invariance.probe import frozen_norms

__all__ = ["Audit", "Line", "audit", "described", "frozen_norms", "param_groups"]
