"""`project`: AdamP's projection, and other rules, for the steps of any torch optimizer.

`projecting`: the public function, and which optimizers it refuses. `hooks`: what happens before and
after a step, and when a state_dict is loaded. `narrow`: 16-bit weights.
"""

from tangential.optim.any_optimizer.projecting import amendment_of, project

__all__ = ["amendment_of", "project"]
