"""AdamP and SGDP, the projected optimizers, and `project` for any other.

`optimizers`: the two classes. `projected`: their base class, a torch.optim.Optimizer. `stepper`:
checks a step, completes the states, and passes it to the backends. `options`: options of a
parameter group. `checks`: what is checked before a step. `checkpoints`: loads state_dicts of other
optimizers. `flattened`: detects weights that a trainer has flattened. `any_optimizer`: `project`.
"""

from tangential.backends import LowPrecision, Projection
from tangential.optim.any_optimizer import amendment_of, project
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
    "amendment_of",
    "project",
]
