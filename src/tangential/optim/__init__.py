"""AdamP and SGDP, the projected optimizers.

`optimizers`: the two classes. `options`: what a parameter group may hold. `stepper`: what both
share, from checks to the backend's step. `states`: what a step remembers of a weight.
`checkpoints`: other optimizers' state_dicts. `flattened`: weights that a trainer has flattened.
"""

from tangential.optim.optimizers import SGDP, AdamP
from tangential.optim.options import Betas, LowPrecision, Projection, StateDtype, WdRatio
from tangential.optim.stepper import Projected

__all__ = [
    "SGDP",
    "AdamP",
    "Betas",
    "LowPrecision",
    "Projected",
    "Projection",
    "StateDtype",
    "WdRatio",
]
