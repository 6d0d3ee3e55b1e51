"""Train an Equinox network on scikit-learn's digits with a projected Lion."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from tangential.optax import project

BATCH, EPOCHS, LR = 64, 5, 1e-3


class Net(eqx.Module):
    """Layers without bias before LayerNorm: each weight is scale-invariant as a whole."""

    layers: list[eqx.nn.Linear]
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        first, second, third = jax.random.split(key, 3)
        sizes = ((64, 128, first), (128, 128, second))
        self.layers = [eqx.nn.Linear(n, m, use_bias=False, key=key) for n, m, key in sizes]
        self.head = eqx.nn.Linear(128, 10, key=third)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
            x = jax.nn.relu((x - x.mean()) / jnp.sqrt(x.var() + 1e-6))
        return self.head(x)


def main() -> float:
    """Train; return the test accuracy."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.float32(images / 16), jnp.int32(labels)
    net = Net(jax.random.key(0))
    # Equinox keeps a weight as torch does, (out, in); None stands for what is not trained
    optimizer = project(optax.lion(LR, weight_decay=0), LR, weight_decay=0.1, row_axis=0)
    state = optimizer.init(eqx.filter(net, eqx.is_array))

    @eqx.filter_jit
    def step(net, state, x, y):
        def loss(net):
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(x), y).mean()

        weights = eqx.filter(net, eqx.is_array)
        updates, state = optimizer.update(eqx.filter_grad(loss)(net), state, weights)
        return eqx.apply_updates(net, updates), state

    for epoch in range(EPOCHS):
        order = jax.random.permutation(jax.random.key(epoch), 1437)
        for batch in order[: 1437 // BATCH * BATCH].reshape(-1, BATCH):
            net, state = step(net, state, images[batch], labels[batch])
    return float((jax.vmap(net)(images[1437:]).argmax(-1) == labels[1437:]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
