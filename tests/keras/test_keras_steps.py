"""Keras's AdamP and SGDP are torch's, after every step, in weights and state."""

import keras
import numpy as np
import pytest
from keras_steps import OURS, apply, arrays, distance, ours, step, theirs, variables
from table import streams

pytestmark = pytest.mark.slow

SHAPES = [(3, 3, 2, 8), (12, 6), (5,), (1, 4)]
DECAY = {"weight_decay": 0.1}
OPTIONS = {
    "decay": DECAY,
    "matched": DECAY | {"wd_ratio": "matched", "delta": 0.2, "eps": 1e-6, "nesterov": True},
    "first axis": DECAY | {"row_axis": 0},
    "row": DECAY | {"projection": "row"},
    "weight": DECAY | {"projection": "weight"},
}
RULE = {
    "adam": {"lr": 0.01, "betas": (0.8, 0.95)},
    "sgd": {"lr": 0.003, "momentum": 0.9, "dampening": 0.1},
}
every_rule = pytest.mark.parametrize("rule", OURS)


@every_rule
@pytest.mark.parametrize("name", OPTIONS)
def test_keras_is_torch(rule, name):
    options = RULE[rule] | OPTIONS[name]
    params, grads = streams(rule, SHAPES, row_axis=options.get("row_axis", -1))
    optimizer, weights = ours(rule, options), variables(params)
    twin, copies = theirs(rule, params, **options)
    for each in grads:
        apply(optimizer, each, weights)
        step(twin, copies, each)
        assert distance(weights, copies) < 1e-5
    for buffer, name in zip(optimizer._buffers, twin.buffers, strict=True):
        assert distance(buffer, [twin.state[copy][name] for copy in copies]) < 1e-5
    assert int(optimizer.iterations) == 20


@every_rule
def test_rows_in_groups(rule):
    params, grads = streams(rule, [(5, 12)], row_axis=1, row_groups=3)
    options = RULE[rule] | DECAY | {"row_axis": 1, "row_groups": 3}
    optimizer, weights = ours(rule, options), variables(params)
    twin, copies = theirs(rule, params, **options)
    for each in grads:
        apply(optimizer, each, weights)
        step(twin, copies, each)
    assert distance(weights, copies) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_steps_of_16_bit_weights_are_computed_in_float32(dtype):
    """As those of torch: the weights differ by one rounding at most."""
    params, grads = streams(shapes=[(12, 6)], steps=1)
    optimizer, weights = ours("adam", RULE["adam"] | DECAY), variables(params, dtype)
    before = arrays(weights)
    twin, copies = theirs("adam", before, **RULE["adam"] | DECAY)
    [narrow] = arrays([keras.ops.cast(grads[0][0], dtype)])
    apply(optimizer, [narrow], weights)
    step(twin, copies, [narrow])
    [after], [exact] = arrays(weights), [copy.detach().double().numpy() for copy in copies]
    ulp = 2.0 ** (-8 if dtype == "bfloat16" else -11)
    assert np.abs(after - exact).max() <= 1.01 * ulp * np.abs(exact).max()
    assert {keras.backend.standardize_dtype(x.dtype) for x in optimizer.variables[2:]} == {dtype}


def test_a_variable_may_be_excluded_from_decay():
    params, grads = streams(shapes=[(12, 6), (5, 4)], steps=6, row_axis=-1)
    optimizer, weights = ours("adam", RULE["adam"] | DECAY), variables(params)
    optimizer.exclude_from_weight_decay(var_names=["w1"])
    twin, copies = theirs("adam", params, **RULE["adam"])
    twin.param_groups[0]["params"] = copies[:1]
    twin.param_groups[0]["weight_decay"] = 0.1
    twin.add_param_group({"params": copies[1:]})
    for each in grads:
        apply(optimizer, each, weights)
        step(twin, copies, each)
    assert distance(weights, copies) < 1e-5


def test_gradients_are_accumulated():
    """Two gradients per step, their mean: moments and step count advance once."""
    params, grads = streams(shapes=[(12, 6), (5,)], steps=12, row_axis=-1)
    options = RULE["adam"] | DECAY
    optimizer = ours("adam", options | {"gradient_accumulation_steps": 2})
    weights, (twin, copies) = variables(params), theirs("adam", params, **options)
    for first, second in zip(grads[::2], grads[1::2], strict=True):
        before = arrays(weights)
        apply(optimizer, first, weights)
        np.testing.assert_array_equal(arrays(weights)[0], before[0])
        apply(optimizer, second, weights)
        step(twin, copies, [(x + y) / 2 for x, y in zip(first, second, strict=True)])
        assert distance(weights, copies) < 1e-5


def test_gradients_are_clipped_first():
    params, grads = streams("sgd", [(12, 6), (5,)], steps=6, row_axis=-1)
    options = RULE["sgd"] | DECAY
    optimizer = ours("sgd", options | {"clipnorm": 0.5})
    weights, (twin, copies) = variables(params), theirs("sgd", params, **options)
    for each in grads:
        apply(optimizer, each, weights)
        step(twin, copies, [g * min(1, 0.5 / np.linalg.norm(g)) for g in each])
    assert distance(weights, copies) < 1e-5


def test_learning_rates_follow_a_schedule():
    params, grads = streams(shapes=[(12, 6)], steps=6, row_axis=-1)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
    optimizer, weights = OURS["adam"](schedule, weight_decay=0.1), variables(params)
    twin, copies = theirs("adam", params, lr=0.01, weight_decay=0.1)
    for t, each in enumerate(grads):
        twin.param_groups[0]["lr"] = 0.01 * 0.5**t
        apply(optimizer, each, weights)
        step(twin, copies, each)
    assert distance(weights, copies) < 1e-5


def test_learning_rates_may_change():
    params, grads = streams(shapes=[(12, 6)], steps=4, row_axis=-1)
    optimizer, weights = OURS["adam"](0.01, weight_decay=0.1), variables(params)
    twin, copies = theirs("adam", params, lr=0.01, weight_decay=0.1)
    for t, each in enumerate(grads):
        optimizer.learning_rate = twin.param_groups[0]["lr"] = 0.01 / (t + 1)
        apply(optimizer, each, weights)
        step(twin, copies, each)
    assert distance(weights, copies) < 1e-5
