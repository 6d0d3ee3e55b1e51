"""Steps of optax transformations, next to those of oracles and of torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import table
import torch

from tangential.optax import adamp, sgdp

OURS = {"adam": adamp, "sgd": sgdp}
MISSING = {"maximize", "caution", "project_buffer"}  # options that only torch's have


def ours(rule, options):
    """The transformation with these options of torch's optimizer; torch has outputs first."""
    options = {"row_axis": 0} | options
    options["learning_rate"] = options.pop("lr")
    if "betas" in options:
        options["b1"], options["b2"] = options.pop("betas")
    return OURS[rule](**options)


def torchs(rule, params, options):
    """torch's optimizer of copies of some arrays, and the copies."""
    copies = [torch.nn.Parameter(torch.tensor(np.array(x))) for x in params]
    return table.RULES[rule](copies, foreach=False, **options), copies


def stepper(optimizer, **jit):
    """A compiled step: (params, state, grads) -> (params, state)."""

    @partial(jax.jit, **jit)
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def streams(*args, **options):
    """The weights and gradients of `table.streams`."""
    return jax.tree.map(jnp.asarray, table.streams(*args, **options))


def trained(optimizer, params, grads, step=None):
    """The weights after some steps, and the state."""
    step, state = step or stepper(optimizer), optimizer.init(params)
    for each in grads:
        params, state = step(params, state, each)
    return params, state


def distance(xs, ys):
    """The largest relative difference of corresponding arrays."""
    pairs = zip(jax.tree.leaves(xs), jax.tree.leaves(ys), strict=True)
    return max(
        float(
            np.abs(np.asarray(x) - np.asarray(y)).max() / np.abs(np.asarray(y)).max(initial=1e-30)
        )
        for x, y in pairs
        if np.size(x)
    )
