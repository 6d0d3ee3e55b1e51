"""Steps of Keras's optimizers, next to those of torch's."""

from functools import cache
from importlib import import_module

import keras
import numpy as np
import torch
from table import RULES

from tangential.keras import SGDP, AdamP

OURS = {"adam": AdamP, "sgd": SGDP}
NAMES = {"lr": "learning_rate", "eps": "epsilon"}  # what Keras calls these options of torch's


def ours(rule, options):
    """Keras's optimizer with these options of torch's."""
    named = {NAMES.get(name, name): value for name, value in options.items()}
    if "betas" in named:
        named["beta_1"], named["beta_2"] = named.pop("betas")
    return OURS[rule](**named)


def theirs(rule, params, **options):
    """torch's optimizer of copies of some arrays in float32, and the copies."""
    copies = [torch.nn.Parameter(torch.tensor(x, dtype=torch.float32)) for x in params]
    return RULES[rule](copies, foreach=False, **{"row_axis": -1} | options), copies


def variables(params, dtype="float32"):
    """Variables of Keras with these values, called w0, w1 ..."""
    return [keras.Variable(x, dtype=dtype, name=f"w{i}") for i, x in enumerate(params)]


def arrays(tensors):
    return [np.array(keras.ops.convert_to_numpy(x), np.float64) for x in tensors]


def distance(xs, ys):
    """The largest difference of corresponding arrays, relative to the largest value."""
    pairs = zip(arrays(xs), [np.array(y.detach(), np.float64) for y in ys], strict=True)
    return max(np.abs(x - y).max() / np.abs(y).max() for x, y in pairs)


def apply(optimizer, grads, weights):
    """A step of Keras's optimizer; on JAX a compiled one, as in `fit`."""
    pairs = zip(grads, weights, strict=True)
    tensors = [keras.ops.convert_to_tensor(g, dtype=w.dtype) for g, w in pairs]
    if keras.backend.backend() != "jax":
        optimizer.apply(tensors, weights)
        return
    optimizer.build(weights)
    state = [x.value for x in optimizer.variables]
    results = compiled(optimizer)(state, tensors, [w.value for w in weights])
    pairs = zip((weights, optimizer.variables), results, strict=True)
    for variable, value in (pair for each in pairs for pair in zip(*each, strict=True)):
        variable.assign(value)


@cache
def compiled(optimizer):
    return import_module("jax").jit(optimizer.stateless_apply)


def step(optimizer, copies, grads):
    """A step of torch's optimizer."""
    for copy, g in zip(copies, grads, strict=True):
        copy.grad = torch.as_tensor(g, dtype=copy.dtype)
    optimizer.step()
