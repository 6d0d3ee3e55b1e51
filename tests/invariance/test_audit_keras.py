"""The audit of a model of Keras, on the torch backend."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

import tangential
from tangential.keras import AdamP, options

pytestmark = pytest.mark.slow


def net(*hidden, shape=(8, 8, 2)):
    """Hidden layers, and a head."""
    keras.utils.set_random_seed(0)
    parts = [keras.Input(shape), *hidden, layers.Flatten(), layers.Dense(3, name="head")]
    return keras.Sequential(parts, name="net")


def blocks():
    conv = layers.Conv2D(4, 3, use_bias=False, name="conv")
    up = layers.Conv2DTranspose(5, 3, use_bias=False, name="up")
    dense = layers.Dense(6, use_bias=False, name="dense")
    norms = [layers.BatchNormalization(), layers.BatchNormalization(), layers.LayerNormalization()]
    dropout = layers.Dropout(0.2)
    return net(conv, norms[0], layers.ReLU(), dropout, up, norms[1], layers.ReLU(), dense, norms[2])


def batches(shape=(8, 8, 2)):
    return [torch.randn(6, *shape) for _ in range(3)]


def kinds(result):
    return {line.name: (line.kind, line.row_axis) for line in result.lines if len(line.shape) > 1}


def test_kernels_have_their_rows_last():
    model = blocks()
    result = tangential.audit(model, batches(), verify=True)
    assert kinds(result) == {
        "net/conv/kernel": ("row", 3),
        "net/up/kernel": ("row", 2),
        "net/dense/kernel": ("weight", 0),
        "net/head/kernel": ("variant", 0),
    }
    assert {line.name for line in result.lines} == {v.path for v in model.trainable_variables}
    assert all(line.verified for line in result.lines if line.kind != "dead")
    conv = result["net/conv/kernel"]
    assert (set(conv.gate), conv.wrong, conv.missed) == ({"row"}, 0, 0)
    assert "Dropout or noise was the same in every pass over a batch." in result.notes
    share = 100 * conv.size / sum(line.size for line in result.lines)
    assert result.summary.startswith(f"{share:.1f} % of the weights are scale-invariant by row, ")


def test_the_model_does_not_change():
    model = blocks()
    epsilons = [layer.epsilon for layer in model.layers if hasattr(layer, "epsilon")]
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]
    tangential.audit(model, batches()[:1])
    for variable, x in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), x)
    assert [layer.epsilon for layer in model.layers if hasattr(layer, "epsilon")] == epsilons


def test_in_eval_mode_batch_normalization_does_not_normalise():
    model = net(layers.Conv2D(4, 3, use_bias=False, name="conv"), layers.BatchNormalization())
    assert tangential.audit(model.eval(), batches())["net/conv/kernel"].kind == "variant"
    assert tangential.audit(model.train(), batches())["net/conv/kernel"].kind == "row"


def test_a_bias_before_a_normalisation_has_a_remedy():
    model = net(layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization())
    result = tangential.audit(model, batches())
    assert result["net/conv/bias"].kind == "dead"
    assert result["net/conv/bias"].remedy == "use_bias=False in net/conv"


def test_labels_are_left_out_and_arrays_are_taken():
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.hidden = layers.Dense(4, use_bias=False, name="hidden")
            self.norm, self.head = layers.BatchNormalization(), layers.Dense(2, name="head")

        def call(self, x, training=None):
            return self.head(self.norm(self.hidden(x), training=training))

    model = Net()
    with pytest.raises(ValueError, match=r"'net' has no weights yet: call it on a batch"):
        tangential.audit(model, batches((5,)))
    model(torch.randn(6, 5))
    for each in (batches((5,)), [x.numpy() for x in batches((5,))]):
        result = tangential.audit(model, [(x, torch.zeros(6)) for x in each])
        assert result["net/hidden/kernel"].kind == "row"
        assert any("labels" in note for note in result.notes)


def test_the_units_reach_an_optimizer_of_keras_and_one_of_torch():
    model = blocks()
    result = tangential.audit(model, batches())
    optimizer = AdamP(0.01, **options(result))
    optimizer.build(model.trainable_variables)
    units = dict(zip([v.path for v in model.trainable_variables], optimizer._units, strict=True))
    assert units == {line.name: line.units for line in result.lines}
    groups = tangential.param_groups(model, result)
    known = {id(p): group["row_axis"] for group in groups for p in group["params"]}
    assert known == {id(v.value): units[v.path].row_axis for v in model.trainable_variables}
