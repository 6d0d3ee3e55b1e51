"""Train a small Flax (nnx) network on scikit-learn's digits with AdamP."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from tangential.optax import adamp

BATCH, EPOCHS = 64, 5


class Net(nnx.Module):
    """Two convolutions with BatchNorm: their kernels are scale-invariant, by output channel."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 16, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(32, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(x.reshape(len(x), -1))


@nnx.jit
def train_step(net: Net, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
    """One step on a batch."""

    def loss(net: Net) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

    optimizer.update(net, nnx.grad(loss)(net))


def main() -> float:
    """Train; return the test accuracy."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.float32(images.reshape(-1, 8, 8, 1) / 16), jnp.int32(labels)
    train, test = slice(0, 1437), slice(1437, None)
    net = Net(nnx.Rngs(0))
    off = lambda path: "off" if "head" in path else "auto"  # nothing normalises the head's output
    schedule = optax.cosine_decay_schedule(0.01, EPOCHS * (1437 // BATCH))
    transformation = adamp(schedule, weight_decay=0.01, projection=off)
    optimizer = nnx.Optimizer(net, transformation, wrt=nnx.Param)
    for epoch in range(EPOCHS):
        order = jax.random.permutation(jax.random.key(epoch), 1437)
        for batch in order[: 1437 // BATCH * BATCH].reshape(-1, BATCH):
            train_step(net, optimizer, images[train][batch], labels[train][batch])
    net.eval()
    return float((net(images[test]).argmax(-1) == labels[test]).mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
