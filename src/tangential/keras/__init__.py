"""AdamP and SGDP as Keras optimizers, on Keras's torch and JAX backends.

`optimizers`: the two classes. `projected`: their base class, a keras.optimizers.Optimizer.
`weights`: options that differ between variables, and those of an audit. `arrays`: the array library
of Keras's backend. `as_module`: a model of the torch backend as a torch module, for the audit; all
other modules work without torch.
"""

from tangential.keras.optimizers import SGDP, AdamP
from tangential.keras.weights import options

__all__ = ["SGDP", "AdamP", "options"]
