"""The compiled kernel: it steps many weights of a group in one call.

It is written in C++ (`native/` in the repository), depends on neither Python nor torch, and takes
CPU weights whose units are contiguous blocks. A test compares its gate with `maths.gate`.
`compiled`: the kernel, or why it is missing. `layouts`: which weights it takes. `plan`: one step.
`changes`: sums and amends around the step of any optimizer.
"""

from tangential.backends.native.changes import WeightChange, amend, can_measure, measure
from tangential.backends.native.compiled import kernel, reason, wanted
from tangential.backends.native.layouts import fields, has_blocks, is_dense, is_plain
from tangential.backends.native.plan import StepPlan, others

__all__ = [
    "StepPlan",
    "WeightChange",
    "amend",
    "can_measure",
    "fields",
    "has_blocks",
    "is_dense",
    "is_plain",
    "kernel",
    "measure",
    "others",
    "reason",
    "wanted",
]
