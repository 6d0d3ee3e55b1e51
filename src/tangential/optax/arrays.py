"""Complex and 16-bit arrays, functions of every weight, and checks of numbers."""

import math
from collections.abc import Callable
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Number = float | jax.Array


def real(x: jax.Array) -> jax.Array:
    """A complex array as pairs of reals [..., 2], any other unchanged; in at least float32."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], axis=-1)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def wide_like(x: jax.Array, like: jax.Array) -> jax.Array:
    """The inverse of `real`, but still in at least float32."""
    return jax.lax.complex(x[..., 0], x[..., 1]) if jnp.iscomplexobj(like) else x


def stored(x: jax.Array, like: jax.Array) -> jax.Array:
    """The inverse of `real`, in the dtype of `like`."""
    return wide_like(x, like).astype(like.dtype)


def for_each(function: Callable[..., tuple[Any, ...]], count: int, *trees: Any) -> list[Any]:
    """The `count` results of a function of corresponding leaves: one tree for each result.

    Trees after the first may have subtrees where the first has leaves.
    """
    first, structure = jax.tree.flatten(trees[0])
    columns = [first, *map(structure.flatten_up_to, trees[1:])]
    results = [function(*values) for values in zip(*columns, strict=True)]
    return [structure.unflatten([result[i] for result in results]) for i in range(count)]


def check_numbers(below: float = math.inf, **values: Any) -> None:
    """Raise a ValueError if a value is not a number >= 0 and < `below`; arrays are not read."""
    for name, value in values.items():
        if isinstance(value, jax.Array):
            continue
        is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not (is_number and 0 <= value < below):
            allowed = "a finite number >= 0" if below == math.inf else f"a number in [0, {below})"
            raise ValueError(f"{name} must be {allowed}, got {value!r:.200}")


def integer(name: str, value: Any, least: float = -math.inf) -> int:
    """The value as an integer; a ValueError if it is none, below `least`, or traced by JAX."""
    try:
        if not isinstance(value, bool) and index(value) >= least:
            return index(value)
    except TypeError:
        pass
    allowed = "an integer" if least == -math.inf else f"an integer >= {least}"
    advice = (
        ": pass static_args to optax.inject_hyperparams" if isinstance(value, jax.Array) else ""
    )
    raise ValueError(f"{name} must be {allowed}, got {value!r:.200}{advice}")
