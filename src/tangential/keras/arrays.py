"""The array library of Keras's backend, and how an optimizer reads a variable."""

from importlib import import_module
from typing import Any

import keras

LIBRARIES = {"torch": "torch", "jax": "jax.numpy"}

backend = keras.backend.backend()
if backend not in LIBRARIES:
    raise ImportError(
        f"tangential.keras needs Keras's torch or jax backend, got {backend!r}: "
        "set the environment variable KERAS_BACKEND before Keras is imported"
    )
xp: Any = import_module(LIBRARIES[backend])

# The same arrays, which XLA would otherwise compute again for every use.
once: Any = import_module("jax").lax.optimization_barrier if backend == "jax" else lambda x: x


def wide(x: Any) -> Any:
    """A variable, tensor or number in at least float32, outside of automatic gradients."""
    x = keras.ops.convert_to_tensor(x)
    dtype = keras.backend.result_type(keras.backend.standardize_dtype(x.dtype), "float32")
    return keras.ops.stop_gradient(keras.ops.cast(x, dtype))
