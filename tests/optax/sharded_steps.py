"""Prints by how much steps of sharded weights differ from those of whole weights: 8 devices."""

import jax
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_steps import distance, stepper, streams, trained

from tangential import radial
from tangential.optax import adamp, project, sgdp

SHAPES = [(4, 8), (8, 6), (4, 3, 2), (6, 8), (3, 2), (8,)]
SPECS = [P("parts", "rows"), P(("rows", "parts")), P("parts"), P(None, "rows"), P(), P("rows")]
ROTATING = {"radial": radial.rotational(), "weight_decay": 0.1, "projection": "row"}
OPTIMIZERS = {
    "adamp": lambda **options: adamp(0.01, weight_decay=0.1, **options),
    "groups": lambda **options: adamp(0.01, weight_decay=0.1, row_groups=2, **options),
    "weight": lambda **options: sgdp(0.1, momentum=0.9, projection="weight", **options),
    "latched": lambda **options: project(optax.lion(0.01), latch=3, **options),
    "rotational": lambda **options: project(optax.adam(0.01), 0.01, **ROTATING, **options),
}

FEW = 3  # weights for the others than AdamP: compilation takes most of the time
EXPLICIT = ("adamp", "groups", "rotational")  # those that are also tried in explicit mode


def by_xla(optimizer, params, grads):
    """XLA divides the step, as the weights lie."""
    after, _ = trained(optimizer(), params, grads)
    for x, w in zip(after, params, strict=True):
        assert x.sharding.is_equivalent_to(w.sharding, x.ndim)
    return after


def by_device(optimizer, params, grads):
    """Every device takes the step of its part, inside shard_map."""
    specs = SPECS[: len(params)]
    transformation = optimizer(partition=specs)

    def train(params, *grads):
        return trained(transformation, params, grads, stepper(transformation))[0]

    mesh, given = params[0].sharding.mesh, (specs,) * (1 + len(grads))
    return jax.jit(jax.shard_map(train, mesh=mesh, in_specs=given, out_specs=specs))(params, *grads)


def main():
    """Compare every optimizer with itself on whole weights."""
    jax.config.update("jax_enable_x64", True)
    for name, optimizer in OPTIMIZERS.items():
        shapes = SHAPES if name == "adamp" else SHAPES[:FEW]
        params, grads = streams(shapes=shapes, steps=4, row_axis=-1)
        whole, _ = trained(optimizer(), params, grads)
        for kind in (AxisType.Auto, AxisType.Explicit)[: 1 + (name in EXPLICIT)]:
            mesh = jax.make_mesh((4, 2), ("rows", "parts"), (kind, kind))
            shardings = [NamedSharding(mesh, spec) for spec in SPECS[: len(shapes)]]
            parts = [jax.device_put(xs, shardings) for xs in (params, *grads)]
            for way in (by_xla, by_device):
                difference = distance(way(optimizer, parts[0], parts[1:]), whole)
                print(name, kind.name, way.__name__, difference, flush=True)


if __name__ == "__main__":
    main()
