"""The audit: which weights of a model are scale-invariant.

`audits` holds the two public functions. `results`: what they return. `probe`: a model's loss as a
fixed function of its weights. `copies`: of a model, in a wide precision. `state`: of modules and
random generators, to put back. `batches`: how they are passed to a model. `evidence`: judges a
weight by its gradients. `proofs`: by gradients and by rescaling, and what the published gate
decides. `caveats`: why a weight is not invariant although it may seem so.
"""

from tangential.invariance.audits import audit, param_groups
from tangential.invariance.caveats import frozen_norms
from tangential.invariance.evidence import units_in_words
from tangential.invariance.results import Audit, Line

__all__ = ["Audit", "Line", "audit", "frozen_norms", "param_groups", "units_in_words"]
