"""AdamP, SGDP and `project` for JAX, as optax transformations. Nothing here imports torch.

`optimizers`: AdamP and SGDP. `projecting`: `project`, which they use. `weights`: what may differ
between weights. `arrays`: complex and 16-bit arrays, trees, checks of numbers.
"""

from tangential.optax.optimizers import adamp, sgdp
from tangential.optax.projecting import ProjectState, project

__all__ = ["ProjectState", "adamp", "project", "sgdp"]
