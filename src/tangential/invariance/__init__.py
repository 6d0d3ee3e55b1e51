"""The audit: which weights of a model are scale-invariant.

`audits`: the two public functions. `results`: what they return. `probe`: a model's loss as a fixed
function of its weights. `copies`: copies a model into a wide precision. `state`: saves and restores
modules and random generators. `batches`: passes batches to a model. `evidence`: judges a weight by
its gradients. `proofs`: judges all weights by gradients and by rescaling, and asks the published
gate. `caveats`: why a weight is not invariant although it may seem so.
"""

from tangential.invariance.audits import audit, param_groups
from tangential.invariance.caveats import frozen_norms
from tangential.invariance.evidence import units_in_words
from tangential.invariance.proofs import gate_decision
from tangential.invariance.results import Audit, Line

__all__ = [
    "Audit",
    "Line",
    "audit",
    "frozen_norms",
    "gate_decision",
    "param_groups",
    "units_in_words",
]
