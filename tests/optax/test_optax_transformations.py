"""AdamP and SGDP under the transformations of JAX and inside those of optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax_steps import distance, stepper, streams, trained

from tangential import radial
from tangential.optax import adamp, project, sgdp

SHAPES = [(6, 4), (3, 2, 5), (4,)]
ROTATING = {"radial": radial.rotational(), "weight_decay": 0.1, "projection": "row"}
OPTIMIZERS = {
    "adamp": lambda lr: adamp(lr, weight_decay=0.1),
    "sgdp": lambda lr: sgdp(lr, momentum=0.9, weight_decay=0.1),
    "latched": lambda lr: project(optax.lion(lr), lr, weight_decay=0.1, latch=3),
    "rotational": lambda lr: project(optax.adam(lr), lr, **ROTATING),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture
def training():
    """Weights, and 7 gradients of each."""
    return streams(shapes=SHAPES, steps=7, row_axis=-1)


@every_optimizer
@pytest.mark.slow
def test_jit_compiles_once_and_is_the_plain_step(name, training):
    optimizer, traces = OPTIMIZERS[name](0.01), []

    def step(params, state, grads):
        traces.append(name)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    plain = trained(optimizer, *training, step)
    del traces[:]
    assert distance(trained(optimizer, *training, jax.jit(step)), plain) < 1e-12
    assert traces == [name]


@every_optimizer
@pytest.mark.slow
def test_scan_is_a_loop(name, training):
    params, grads = training
    optimizer = OPTIMIZERS[name](0.01)
    step = stepper(optimizer)
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *grads)
    body = lambda carry, each: (step(*carry, each), None)
    scanned, _ = jax.lax.scan(body, (params, optimizer.init(params)), stacked)
    assert distance(scanned, trained(optimizer, params, grads)) < 1e-12


@every_optimizer
@pytest.mark.slow
def test_vmap_is_every_member_of_an_ensemble(name):
    optimizer = OPTIMIZERS[name](0.01)
    members = [streams(shapes=SHAPES, steps=4, seed=seed, row_axis=-1) for seed in range(3)]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
    params = stack([params for params, _ in members])
    grads = [stack(each) for each in zip(*(grads for _, grads in members), strict=True)]
    step, state = jax.jit(jax.vmap(stepper(optimizer))), jax.vmap(optimizer.init)(params)
    for each in grads:
        params, state = step(params, state, each)
    alone = stack([trained(optimizer, *member)[0] for member in members])
    assert distance(params, alone) < 1e-12


@pytest.mark.parametrize("name", ["adamp", "sgdp", "rotational"])
@pytest.mark.slow
def test_a_schedule_is_that_rate_at_every_step(name, training):
    params, grads = training
    schedule = optax.cosine_decay_schedule(0.1, 10)
    scheduled, _ = trained(OPTIMIZERS[name](schedule), params, grads)
    injected = optax.inject_hyperparams(OPTIMIZERS[name])(lr=0.1)
    step, state = stepper(injected), injected.init(params)
    for t, each in enumerate(grads):
        state.hyperparams["lr"] = jnp.asarray(schedule(t))
        params, state = step(params, state, each)
    assert distance(scheduled, params) < 1e-12


@pytest.mark.parametrize(
    ("optimizer", "changed"), [(adamp, {"b1": 0.5, "wd_ratio": 0.7}), (sgdp, {"momentum": 0.5})]
)
@pytest.mark.slow
def test_injected_hyperparameters_may_change_without_a_compilation(optimizer, changed, training):
    params, grads = training
    changed = changed | {"learning_rate": 0.02, "weight_decay": 0.3, "eps": 1e-4, "delta": 0.2}
    injected = optax.inject_hyperparams(optimizer)(learning_rate=0.5)
    step, state = stepper(injected), injected.init(params)
    step(params, state, grads[0])
    for name, value in changed.items():
        state.hyperparams[name] = jnp.full_like(state.hyperparams[name], value)
    actual = params
    for each in grads:
        actual, state = step(actual, state, each)
    assert step._cache_size() == 1
    assert distance(actual, trained(optimizer(**changed), params, grads)[0]) < 1e-12


@pytest.mark.slow
def test_injected_rows_need_static_args(training):
    params, grads = training
    injected = optax.inject_hyperparams(adamp)(learning_rate=0.1, row_axis=0)
    with pytest.raises(ValueError, match=r"row_axis must be an integer, .* pass static_args"):
        stepper(injected)(params, injected.init(params), grads[0])
    injected = optax.inject_hyperparams(adamp, static_args="row_axis")(0.1, row_axis=0)
    actual, _ = trained(injected, params, grads)
    assert distance(actual, trained(adamp(0.1, row_axis=0), params, grads)[0]) < 1e-12


@pytest.mark.parametrize("mask", [[True, False, True], [False, False, False]])
@pytest.mark.slow
def test_masked_leaves_other_weights_to_others(mask, training):
    params, grads = training
    chosen = [i for i, is_chosen in enumerate(mask) if is_chosen]
    alone = lambda xs: [xs[i] for i in chosen]
    for optimizer in (OPTIMIZERS["adamp"](0.01), OPTIMIZERS["rotational"](0.01)):
        actual, _ = trained(optax.masked(optimizer, mask), params, grads)
        expected, _ = trained(optimizer, alone(params), [alone(each) for each in grads])
        assert not chosen or distance(alone(actual), expected) < 1e-12


@pytest.mark.slow
def test_multi_steps_steps_with_the_mean_gradient(training):
    params, grads = training
    optimizer = OPTIMIZERS["adamp"](0.01)
    several = optax.MultiSteps(optimizer, 2)
    actual, _ = trained(several.gradient_transformation(), params, grads[:6])
    pairs = zip(grads[0:6:2], grads[1:6:2], strict=True)
    means = [jax.tree.map(lambda x, y: (x + y) / 2, *pair) for pair in pairs]
    assert distance(actual, trained(optimizer, params, means)[0]) < 1e-6  # summed in float32


@every_optimizer
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtypes_are_kept(name, dtype):
    params = {"kernel": jnp.ones((4, 3), dtype), "bias": jnp.ones(3, dtype)}
    for lr in (0.1, optax.constant_schedule(0.1), jnp.asarray(0.1)):
        optimizer = OPTIMIZERS[name](lr)
        state = optimizer.init(params)
        updates, after = jax.eval_shape(optimizer.update, params, state, params)
        assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
        dtypes = lambda tree: [x.dtype for x in jax.tree.leaves(tree)]
        assert dtypes(after) == dtypes(state)


def test_state_dtype_keeps_moments_wide():
    params = {"kernel": jnp.ones((4, 3), jnp.bfloat16), "phase": jnp.ones(3, jnp.complex64)}
    for optimizer in (adamp(0.1, state_dtype=jnp.float32), sgdp(0.1, state_dtype=jnp.float32)):
        updates, state = jax.eval_shape(optimizer.update, params, optimizer.init(params), params)
        moments = jax.tree.leaves(state[0].inner)
        assert {x.dtype for x in moments} <= {jnp.dtype(d) for d in ("f4", "c8", "i4")}
        assert updates["kernel"].dtype == jnp.bfloat16


@pytest.mark.slow
def test_the_state_is_that_of_optax(training):
    params, grads = training
    _, (ours, _) = trained(adamp(0.01), params, grads)
    _, theirs = trained(optax.scale_by_adam(), params, grads)
    assert distance(ours.inner, theirs) < 1e-12
    assert optax.tree.get(ours, "mu") is ours.inner.mu


@pytest.mark.slow
def test_a_step_is_differentiable(training):
    """As meta-learning needs: the loss after a step by the learning rate."""
    params, grads = training

    def loss(lr):
        optimizer = sgdp(lr, weight_decay=0.1)
        updates, _ = optimizer.update(grads[0], optimizer.init(params), params)
        return sum(jnp.sum(w**2) for w in optax.apply_updates(params, updates))

    slope = (loss(0.1 + 1e-5) - loss(0.1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(loss)(0.1), slope, rtol=1e-6)
