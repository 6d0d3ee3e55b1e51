"""The compiled kernel: it steps many weights of a group in one call.

It is written in C++ (`native/` in the repository), knows neither Python nor torch, and takes
weights on the CPU whose units are contiguous blocks. A test holds its gate equal to `maths.gate`.
`compiled`: the kernel, or why it is missing. `layouts`: which weights it takes. `plan`: a
step. `moved`: sums for a monitor.
"""

from tangential.backends.native.compiled import kernel, reason, wanted
from tangential.backends.native.moved import Move, products, takes
from tangential.backends.native.plan import StepPlan

__all__ = ["Move", "StepPlan", "kernel", "products", "reason", "takes", "wanted"]
