"""The Triton backend: it steps all weights of a group on a GPU in four launches.

`available`: what Triton can step. `plan`: the step of a group. `changes`: sums and amends around
the step of any optimizer. `launches`: tables on the device, and the launches. `kernels`: the
kernels, imported at the first step on a GPU.
"""

from tangential.backends.triton.available import reason, runs_on, wanted
from tangential.backends.triton.changes import amend, can_measure, measure
from tangential.backends.triton.plan import TritonPlan, check_warm_up

__all__ = [
    "TritonPlan",
    "amend",
    "can_measure",
    "check_warm_up",
    "measure",
    "reason",
    "runs_on",
    "wanted",
]
