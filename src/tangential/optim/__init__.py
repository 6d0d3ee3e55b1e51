"""AdamP and SGDP, the projected optimizers.

`optimizers`: the two classes. `projected`: their base, a torch.optim.Optimizer. `stepper`: a step,
from checks by a plan to the backend. `options`: what a parameter group may hold. `states`: what a
step remembers of a weight. `checks`: what must be true before a step. `checkpoints`: state_dicts of
other optimizers. `flattened`: weights that a trainer has flattened.
"""

from tangential.backends import LowPrecision, Projection
from tangential.optim.optimizers import SGDP, AdamP
from tangential.optim.options import Betas, StateDtype, WdRatio
from tangential.optim.projected import Projected

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
