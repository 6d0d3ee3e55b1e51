"""Train a small Keras network on scikit-learn's digits with AdamP."""

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers
from sklearn.datasets import load_digits

from tangential.keras import AdamP

BATCH, EPOCHS = 64, 5
SILENT: dict[str, Any] = {"verbose": 0}


def network() -> keras.Model:
    """Two convolutions before BatchNormalization: their kernels are scale-invariant, by output."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )


def main() -> float:
    """Train; return the test accuracy."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    train, test = slice(0, 1437), slice(1437, None)
    keras.utils.set_random_seed(0)
    model = network()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, EPOCHS * (1437 // BATCH + 1))
    # nothing normalises the head's output
    optimizer = AdamP(schedule, weight_decay=0.01, projection={"head": "off"})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(images[train], labels[train], batch_size=BATCH, epochs=EPOCHS, **SILENT)
    return model.evaluate(images[test], labels[test], **SILENT)[1]


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
