"""Time a jitted step of tangential.optax.adamp and of optax.adamw on the weights of ResNet-50.

python bench/jax_step.py [--rounds 15] [--clock cpu] [--gate open] [--projection row]

The weights lie as in JAX's libraries: outputs last. A step is the update and its addition to the
weights, compiled together, with weights and state donated.
"""

from functools import partial
from typing import get_args

import jax
import optax
from optimizer_step.workloads import SHAPES, Kind, gradient, weights
from timing import CLOCKS, interleaved, medians, options_of, seconds

from tangential.optax import adamp
from tangential.units import Projection


def outputs_last(weight):
    """A weight of torch as a JAX library keeps it."""
    order = (2, 3, 1, 0)[-weight.dim() :] if weight.dim() == 4 else range(weight.dim())[::-1]
    return jax.numpy.asarray(weight.detach().permute(*order).contiguous().numpy())


def stepper(optimizer, params, grads):
    """A function that takes one step and waits for it."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    current = [jax.tree.map(jax.numpy.copy, params), optimizer.init(params)]

    def call():
        current[:] = jax.block_until_ready(step(*current, grads))

    return call


def main():
    """Print medians in milliseconds, and ratios."""
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--gate", choices=get_args(Kind), default="open")
    parser.add_argument("--projection", choices=get_args(Projection), default="auto")
    given = parser.parse_args()
    torchs = weights(SHAPES["resnet50"]())
    params = [outputs_last(weight) for weight in torchs]
    grads = [outputs_last(gradient(weight.detach(), given.gate)) for weight in torchs]
    optimizers = {
        "optax.adamw": optax.adamw(1e-4, weight_decay=0.01),
        "tangential.optax.adamp": adamp(1e-4, weight_decay=0.01, projection=given.projection),
    }
    actions = {
        name: partial(seconds, stepper(optimizer, params, grads), given.clock)
        for name, optimizer in optimizers.items()
    }
    step_s = medians(interleaved(actions, given.rounds, warm_up=2))
    for name, time_s in step_s.items():
        print(f"{name:24}{1000 * time_s:8.1f} ms {time_s / step_s['optax.adamw']:6.2f}x")


if __name__ == "__main__":
    main()
