"""The rules for the radial part are those of torch's `project`, in weights and state."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax_steps import distance, stepper, streams

import tangential
from tangential import radial
from tangential.optax import project

pytestmark = pytest.mark.slow

SHAPES = [(6, 4), (4, 3, 2), (5,)]
OPTIONS = {"weight_decay": 0.1, "wd_ratio": 0.5, "row_axis": 0}
ROW, LATCH = {"projection": "row"}, {"latch": 2}
CASES = [
    (radial.brake(0.5), {}),
    (radial.brake(0.2), ROW),
    (radial.fixed_norm(), ROW),
    (radial.fixed_norm(3.0, normalize_update=False), {"projection": "weight"}),
    (radial.relative(), LATCH),
    (radial.update_floor(0.9), ROW),
    (radial.rotational(), ROW | {"row_groups": 2}),
    (radial.corrected_decay(0.5), ROW),
    (radial.target_norm(), LATCH),
    (radial.bounded_norm(rate=0.02), ROW),
]


def name(case):
    return case.formula.__name__.strip("_") if isinstance(case, radial.Rule) else " ".join(case)


@pytest.mark.parametrize(("rule", "options"), CASES, ids=name)
def test_optax_is_torch(rule, options):
    options = OPTIONS | options | {"radial": rule}
    shapes = SHAPES[: 1 if "row_groups" in options else 3]
    params, grads = streams(shapes=shapes, steps=6)
    copies = [torch.nn.Parameter(torch.tensor(np.array(x))) for x in params]
    theirs = tangential.project(torch.optim.Adam(copies, lr=0.05), **options)
    optimizer = project(optax.adam(0.05), 0.05, **options)
    step, state = stepper(optimizer), optimizer.init(params)
    for each in grads:
        params, state = step(params, state, each)
        for copy, g in zip(copies, each, strict=True):
            copy.grad = torch.tensor(np.array(g))
        theirs.step()
        assert distance(params, [copy.detach().numpy() for copy in copies]) < 1e-12
    for units, copy in zip(state.units, copies, strict=True):
        kept = {key.removeprefix("radial_"): x for key, x in theirs.state[copy].items()}
        assert units.keys() <= kept.keys()
        for key, value in units.items():
            np.testing.assert_allclose(jnp.ravel(value), kept[key].ravel(), rtol=1e-10)
    assert any(units for units in state.units) == bool(rule.state or "latch" in options)
