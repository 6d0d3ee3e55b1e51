"""Where the rows of a weight lie, and which of them form one scale-invariant unit."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends.sharded import (
    ALONE,
    ShardGroups,
    groups_of,
    is_dtensor,
    local,
    local_indices,
    shards_of,
)
from tangential.units import Projection, Units, layout_of

# vector_norm does not copy its argument, but adds up float32 in sequence: beyond this many
# elements, the sixth digit of its result would be wrong, unlike that of sum().
NORM_SIZE = 2**14

# torch splits the sum of a whole tensor among threads only from this many elements on.
BLOCK = 2**15


class Rows(NamedTuple):
    """The units of one weight in its real view; of a DTensor, in the shard of this process.

    If units of several rows may be split between processes, every process has sums for all units,
    and `local_rows` lists its own by their index in the whole weight.
    """

    units: int
    rows_per_unit: int
    unit_size: int  # of the whole unit
    size: int  # of the whole weight
    other_axes: tuple[int, ...]
    spread_shape: tuple[int, ...]
    shard_groups: ShardGroups = ALONE
    local_rows: Tensor | None = None

    @property
    def row_axis(self) -> int | None:
        """The axis of the rows; None if the whole weight is one unit."""
        axes = set(range(len(self.spread_shape))) - set(self.other_axes)
        return axes.pop() if axes else None

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner product per unit [units], over local elements, of two weight-shaped arrays."""
        if x is y and self.unit_size <= NORM_SIZE:
            return self.of_rows(self.norms(x).square())
        return self.sums(x * y)

    def norms(self, x: Tensor) -> Tensor:
        """The norm of every local row."""
        return torch.linalg.vector_norm(x, dim=self.other_axes).view(-1)

    def sums(self, x: Tensor) -> Tensor:
        """The sum over every unit [units]."""
        if self.units == 1 and self.local_rows is None:
            return ordered_sum(x).view(1)
        return self.of_rows(x.sum(self.other_axes).view(-1))

    def of_rows(self, values: Tensor) -> Tensor:
        """Sum `values`, one per local row, over the rows of every unit [units]."""
        if self.local_rows is not None:
            rows = values.new_zeros(self.units * self.rows_per_unit)
            rows[self.local_rows] = values
            values = rows
        if self.rows_per_unit == 1:
            return values
        return values.view(self.units, self.rows_per_unit).sum(1)

    def spread(self, values: Tensor) -> Tensor:
        """One value per unit [units], shaped to broadcast over the weight."""
        if self.rows_per_unit > 1:
            values = values.repeat_interleave(self.rows_per_unit)
        if self.local_rows is not None:
            values = values[self.local_rows]
        return values.view(self.spread_shape)


def as_real(x: Tensor) -> Tensor:
    """A complex tensor as pairs of reals [..., 2], any other unchanged; always a view."""
    return torch.view_as_real(x) if x.is_complex() else x


def widen(x: Tensor) -> Tensor:
    """`as_real(x)` in at least float32: a view if x is wide enough, else a copy."""
    x = as_real(x)
    return x.float() if x.dtype.itemsize < 4 else x


def widen_all(xs: list[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """`widen(x)` of many tensors, or all in `dtype`, in few operations; copies share one array."""
    xs = [as_real(x) for x in xs]
    narrow = [x.dtype != dtype if dtype else x.dtype.itemsize < 4 for x in xs]
    wanted = dtype or torch.float32
    if sum(narrow) < 2:
        return [x.to(wanted) if is_narrow else x for x, is_narrow in zip(xs, narrow, strict=True)]
    sources = [x for x, is_narrow in zip(xs, narrow, strict=True) if is_narrow]
    sizes = [x.numel() for x in sources]
    flat = torch.empty(sum(sizes), dtype=wanted, device=sources[0].device)
    copies = [
        part.view(x.shape) if x.is_contiguous() else part.as_strided(x.shape, _dense_strides(x))
        for part, x in zip(flat.split(sizes), sources, strict=True)
    ]
    torch._foreach_copy_(copies, sources)
    each = iter(copies)
    return [next(each) if is_narrow else x for x, is_narrow in zip(xs, narrow, strict=True)]


def _dense_strides(x: Tensor) -> tuple[int, ...]:
    """The strides of x if it is dense, else those of a dense tensor of its shape."""
    return torch.empty_like(x, device="meta").stride()


def ordered_sum(x: Tensor) -> Tensor:
    """The sum of all elements, in an order that does not depend on the number of threads."""
    x = x.reshape(-1)
    blocks = x[: x.numel() // BLOCK * BLOCK].view(-1, BLOCK)
    return blocks.sum(1).sum() + x[blocks.numel() :].sum()


def rows_of(weight: Tensor, units: Units) -> Rows | None:
    """The units that may be projected; None if `projection` or the shape excludes projection.

    Weights of fewer than two dimensions are projected only with `projection="weight"`.

    Raises:
        ValueError: `row_axis` is not an axis, or `row_groups` does not divide the rows.
    """
    axis, count = int(units.row_axis), int(units.row_groups)
    rows = _layout(weight.shape, weight.is_complex(), axis, count, units.projection)
    return _of_shard(rows, weight, units) if rows and is_dtensor(weight) else rows


def shard_groups(weight: Tensor, units: Units) -> ShardGroups:
    """Which processes have the other parts of a weight's units, and which have other units.

    If every process has sums for all units (`splits_units`), no process has other units.
    """
    if not (shards := shards_of(weight)):
        return ALONE
    by_row = weight.dim() > 1 and units.projection != "weight" and not splits_units(weight, units)
    row_axis = units.row_axis % weight.dim() if by_row else None
    groups = [(axis, group) for (axis, _), group in zip(shards, groups_of(weight), strict=True)]
    return ShardGroups(
        tuple(group for axis, group in groups if axis != row_axis),
        tuple(group for axis, group in groups if axis == row_axis),
    )


def splits_units(weight: Tensor, units: Units) -> bool:
    """Whether a shard may end within a unit of several rows: every process then has all units."""
    if weight.dim() < 2 or units.projection == "weight" or units.row_groups == 1:
        return False
    return any(axis == units.row_axis % weight.dim() for axis, _ in shards_of(weight))


def per_unit(values: Tensor, weight: Any, units: Units) -> Tensor:
    """Numbers of this process's units [units of the shard], sharded as a DTensor like the units."""
    if not is_dtensor(weight):
        return values
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh, places = weight.device_mesh, [Replicate() for _ in weight.placements]
    count, split = len(values), splits_units(weight, units) or units.projection == "weight"
    for axis, mesh_dim in shards_of(weight):
        if not split and axis == units.row_axis % weight.dim():
            placement = weight.placements[mesh_dim]
            factor = getattr(placement, "split_factor", None)  # of _StridedShard
            places[mesh_dim] = type(placement)(0, split_factor=factor) if factor else Shard(0)
            count = weight.shape[axis]
    return DTensor.from_local(values, mesh, places, shape=torch.Size((count,)), stride=(1,))


def _of_shard(rows: Rows, weight: Tensor, units: Units) -> Rows:
    """The units of which this process has all or a part."""
    rows = rows._replace(shard_groups=shard_groups(weight, units))
    if units.projection == "weight":
        return rows
    axis = units.row_axis % weight.dim()
    count = local(weight).shape[axis]
    shape = tuple(count if i == axis else n for i, n in enumerate(rows.spread_shape))
    if splits_units(weight, units):
        return rows._replace(spread_shape=shape, local_rows=local_indices(weight, axis))
    return rows._replace(units=count // rows.rows_per_unit, spread_shape=shape)


@lru_cache(maxsize=4096)
def _layout(
    shape: torch.Size, pairs: bool, row_axis: int, row_groups: int, projection: Projection
) -> Rows | None:
    layout = layout_of(shape, Units(projection, row_axis, row_groups), pairs=pairs)
    return layout and Rows(*layout)
