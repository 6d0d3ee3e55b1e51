"""What may differ between weights: units, weight decay, and how devices share a weight."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from tangential.functional import Exchange
from tangential.optax.arrays import integer
from tangential.units import Layout, Units, check_projection, layout_of

# optax.inject_hyperparams makes traced arrays of Python's integers, but not of NumPy's.
LAST, ONE = np.int64(-1), np.int64(1)


class Weight(NamedTuple):
    """What is special about a weight.

    Attributes:
        units: What is projected as one vector.
        layout: The units of the part that this device has; None if they are never projected.
        exchange: How the sums of this part are completed.
        decays: Whether weight decay applies.
    """

    units: Units
    layout: Layout | None
    exchange: Exchange
    decays: bool


class Grouped(Layout):
    """A layout of units of several rows."""

    def summed(self, rows: Any) -> Any:
        """The sums per unit; in explicit sharding mode, JAX does not reshape a sharded axis."""
        sharding = jax.typeof(rows).sharding
        if any(sharding.spec):
            whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
            rows = jax.sharding.reshard(rows, whole)
        return super().summed(rows)


class PerWeight(NamedTuple):
    """Options that are one value, a prefix of the tree of weights, or a function of the path.

    `mask` is as in optax: a function of the tree, not of the path.
    """

    row_axis: Any = LAST
    row_groups: Any = ONE
    projection: Any = "auto"
    mask: Any = True
    partition: Any = None

    def of(self, params: Any, *, sharded: bool = True) -> Iterator[Weight]:
        """What is special about every weight; not `sharded` where weights are still whole."""
        mask = self.mask(params) if callable(self.mask) else self.mask
        options = self._replace(mask=mask)
        columns = [_values(name, option, params) for name, option in options._asdict().items()]
        for w, axis, groups, projection, decays, spec in zip(
            jax.tree.leaves(params), *columns, strict=True
        ):
            units = _units(projection, axis, groups)
            layout = layout_of(w.shape, units, pairs=np.iscomplexobj(w))
            if layout and layout.rows_per_unit > 1:
                layout = Grouped(*layout)
            exchange = Exchange()
            if layout and spec and sharded:
                layout, exchange = _of_device(layout, units, spec, w.ndim)
            yield Weight(units, layout, exchange, bool(decays))


def _values(name: str, option: Any, params: Any) -> list[Any]:
    """An option's value for every weight."""
    if callable(option):
        paths = [path for path, _ in jax.tree.leaves_with_path(params)]
        return [option(jax.tree_util.keystr(path, simple=True, separator="/")) for path in paths]
    try:
        values = jax.tree.broadcast(option, params, is_leaf=lambda x: x is None)
    except ValueError as error:
        raise ValueError(f"{name} does not fit the tree of weights: {error}") from error
    return jax.tree.structure(params).flatten_up_to(values)


def _units(projection: Any, row_axis: Any, row_groups: Any) -> Units:
    check_projection(projection)
    return Units(
        projection, integer("row_axis", row_axis), integer("row_groups", row_groups, least=1)
    )


def _of_device(layout: Layout, units: Units, spec: Any, ndim: int) -> tuple[Layout, Exchange]:
    """The units of this device's part of a weight, inside shard_map."""
    axes = [(entry,) if isinstance(entry, str) else tuple(entry or ()) for entry in spec]
    row_axis = None if units.projection == "weight" else units.row_axis % ndim
    parts = tuple(name for i, names in enumerate(axes) if i != row_axis for name in names)
    rows = tuple(name for i, names in enumerate(axes) if i == row_axis for name in names)
    part_count, row_count = (math.prod(map(jax.lax.axis_size, names)) for names in (parts, rows))
    whole = layout._replace(
        unit_size=layout.unit_size * part_count, size=layout.size * part_count * row_count
    )
    psum = lambda names: partial(jax.lax.psum, axis_name=names)
    return whole, Exchange(psum(parts), psum(rows))
