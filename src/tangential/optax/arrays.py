"""Complex and 16-bit arrays, functions of every weight, and checks of numbers."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tangential import checks

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
    read = {name: x for name, x in values.items() if not isinstance(x, jax.Array)}
    checks.check_numbers(below, **read)


def integer(name: str, value: Any, least: float = -math.inf) -> int:
    """The value as an integer; a ValueError if it is none, below `least`, or traced by JAX."""
    is_array = isinstance(value, jax.Array)
    advice = ": pass static_args to optax.inject_hyperparams" if is_array else ""
    return checks.integer(name, value, least, advice)
