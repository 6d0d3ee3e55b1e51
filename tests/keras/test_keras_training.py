"""Keras's AdamP and SGDP in `fit`, saved and loaded, and with options that differ by path."""

import keras
import numpy as np
import pytest
from keras_steps import OURS, apply, arrays, distance, ours, step, theirs, variables
from table import streams

from tangential.keras import AdamP

pytestmark = pytest.mark.slow

OPTIONS = {
    "adam": {"lr": 0.01, "weight_decay": 0.1, "nesterov": True, "wd_ratio": "matched"},
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
}
every_rule = pytest.mark.parametrize("rule", OURS)


def regression(rows=16):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 6)), rng.standard_normal((rows, 4))


def linear(optimizer):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, use_bias=False)])
    model.compile(optimizer, "mse")
    return model


def fit(model, steps):
    x, y = regression()
    return model.fit(x, y, batch_size=len(x), epochs=steps, shuffle=False, verbose=0)


@every_rule
def test_fit_takes_torchs_steps(rule):
    (x, y), model = regression(), linear(ours(rule, OPTIONS[rule]))
    twin, [copy] = theirs(rule, arrays(model.weights), **OPTIONS[rule])
    losses = fit(model, 8).history["loss"]
    for _ in range(8):
        error = x @ copy.detach().double().numpy() - y
        step(twin, [copy], [2 / y.size * x.T @ error])
    assert distance(model.weights, [copy]) < 1e-5
    assert losses[-1] < losses[0]


@every_rule
def test_a_loaded_run_is_uninterrupted(rule, tmp_path):
    keras.utils.set_random_seed(0)
    whole, path = linear(ours(rule, OPTIONS[rule])), tmp_path / "model.keras"
    fit(whole, 3)
    whole.save(path)
    loaded = keras.saving.load_model(path)
    assert loaded.optimizer.get_config() == whole.optimizer.get_config()
    fit(whole, 3)
    fit(loaded, 3)
    for x, y in zip(arrays(loaded.weights), arrays(whole.weights), strict=True):
        np.testing.assert_array_equal(x, y)
    assert int(loaded.optimizer.iterations) == 6


@every_rule
def test_a_config_holds_every_argument(rule):
    given = ours(rule, OPTIONS[rule] | {"row_axis": {"embeddings": 0}, "clipnorm": 1.0})
    config = given.get_config()
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(given))
    assert type(copy) is OURS[rule]
    assert copy.get_config() == config
    assert config["row_axis"] == {"embeddings": 0}
    assert config["wd_ratio"] == OPTIONS[rule].get("wd_ratio", 0.1)


def test_options_by_path():
    params, grads = streams(shapes=[(12, 6), (9, 4), (6, 5)], steps=9, row_axis=0)
    options = {"lr": 0.01, "weight_decay": 0.1}
    by_path = {
        "row_axis": {"w0": -1, "w": 0},
        "row_groups": {"w1": 3},
        "projection": {"2$": "row"},
    }
    optimizer, weights = ours("adam", options | by_path), variables(params)
    twin, copies = theirs("adam", params, **options)
    twin.param_groups[0]["params"] = copies[:1]
    twin.add_param_group({"params": copies[1:2], "row_axis": 0, "row_groups": 3})
    twin.add_param_group({"params": copies[2:], "row_axis": 0, "projection": "row"})
    for each in grads:
        apply(optimizer, each, weights)
        step(twin, copies, each)
    assert distance(weights, copies) < 1e-5


def test_a_loss_scale_changes_nothing():
    params, grads = streams(shapes=[(12, 6)], steps=3, row_axis=-1)
    plain, weights = AdamP(0.01, weight_decay=0.1), variables(params)
    scaled, others = keras.optimizers.LossScaleOptimizer(AdamP(0.01, 0.1)), variables(params)
    for each in grads:
        apply(plain, each, weights)
        apply(scaled, [g * 2.0**15 for g in each], others)
    np.testing.assert_allclose(arrays(others)[0], arrays(weights)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamP(-0.1), "learning_rate must be a finite number >= 0, got -0.1"),
        (lambda: AdamP(beta_1=1.0), r"beta_1 must be a number in \[0, 1\), got 1.0"),
        (lambda: AdamP(weight_decay=-1), "weight_decay must be a finite number >= 0, got -1"),
        (lambda: AdamP(epsilon=float("nan")), "epsilon must be a finite number >= 0, got nan"),
        (lambda: AdamP(delta="0.1"), "delta must be a finite number >= 0, got '0.1'"),
        (lambda: AdamP(wd_ratio="same"), "wd_ratio must be .*, or \"matched\", got 'same'"),
        (lambda: AdamP(clip_norm=1.0), "not recognized: {'clip_norm': 1.0}"),
        (lambda: OURS["sgd"](0.1, momentum=1), r"momentum must be a number in \[0, 1\), got 1"),
    ],
)
def test_bad_options_are_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_axis": 2}, r"row_axis is 2, but a weight has shape \(4, 6\): expected -2 to 1"),
        ({"row_axis": 0.5}, "row_axis must be an integer, got 0.5"),
        ({"row_groups": {"w0": 4}}, "row_groups is 4, but a weight of .* expected a divisor"),
        ({"projection": "rows"}, "projection must be 'auto' or .*, got 'rows'"),
        ({"row_axis": {"kernel": 0}}, "row_axis has the pattern 'kernel', but .* they are w0"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_first_step(options, message):
    [weight] = variables([np.ones((4, 6))])
    optimizer = AdamP(**options)
    with pytest.raises(ValueError, match=message):
        apply(optimizer, [np.ones((4, 6))], [weight])
    assert not optimizer.built
    assert np.all(arrays([weight])[0] == 1)
