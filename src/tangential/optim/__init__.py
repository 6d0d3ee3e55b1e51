"""AdamP and SGDP, the projected optimizers.

`optimizers`: the two classes. `projected`: their base class, a torch.optim.Optimizer. `stepper`:
checks a step, plans it, and hands it to the backends. `options`: the options of a parameter group.
`states`: what a step remembers of each weight. `checks`: what must hold before a step.
`checkpoints`: loads state_dicts of other optimizers. `flattened`: weights flattened by a trainer.
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
