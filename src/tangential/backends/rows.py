"""Where the rows of a weight lie, and how many of them form one scale-invariant unit."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from tangential.backends.sharded import ALONE, Holders, added_up, holders_of, is_dtensor, local

# vector_norm makes no copy of its argument, but adds up float32 in sequence: past this many
# elements it would lose a sixth digit, where sum() loses none.
NORM_FAN = 2**14

# A sum to one value is split among threads only from this many elements on.
BLOCK = 2**15


class Rows(NamedTuple):
    """The units of one weight, as they lie in its real view; of a DTensor, in its shard here."""

    units: int
    groups: int
    fan: int  # of the whole unit
    size: int  # of the whole weight
    others: tuple[int, ...]
    spread_shape: tuple[int, ...]
    holders: Holders = ALONE

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner product per unit [units] of two arrays of the weight's shape, of what is here."""
        if x is y and self.fan <= NORM_FAN:
            products = torch.linalg.vector_norm(x, dim=self.others).square()
        elif self.units == 1:
            return ordered_sum(x * y).view(1)
        else:
            products = (x * y).sum(self.others)
        return (
            products.view(self.units, self.groups).sum(1) if self.groups > 1 else products.view(-1)
        )

    def spread(self, values: Tensor) -> Tensor:
        """One value a unit [units], shaped to broadcast over the weight."""
        if self.groups > 1:
            values = values.repeat_interleave(self.groups)
        return values.view(self.spread_shape)


def real(x: Tensor) -> Tensor:
    """A complex tensor as pairs of reals [..., 2], any other as it is; always a view."""
    return torch.view_as_real(x) if x.is_complex() else x


def wide(x: Tensor) -> Tensor:
    """`real(x)` in float32 at least: itself where it is that wide, else a copy."""
    x = real(x)
    return x.float() if x.dtype.itemsize < 4 else x


def ordered_sum(x: Tensor) -> Tensor:
    """The sum of all elements, in an order that does not depend on the number of threads."""
    x = x.reshape(-1)
    blocks = x[: x.numel() // BLOCK * BLOCK].view(-1, BLOCK)
    return blocks.sum(1).sum() + x[blocks.numel() :].sum()


def row_count(shape: tuple[int, ...], row_axis: int, row_groups: int) -> int:
    """Rows along `row_axis` of a weight of `shape` (two dimensions or more).

    Raises:
        ValueError: `row_axis` is not an axis, or `row_groups` does not divide the rows.
    """
    if not -len(shape) <= row_axis < len(shape):
        raise ValueError(
            f"row_axis is {row_axis}, but a weight has shape {tuple(shape)}: "
            f"allowed are {-len(shape)} to {len(shape) - 1}"
        )
    if shape[row_axis] % row_groups:
        raise ValueError(
            f"row_groups is {row_groups}, but a weight of shape {tuple(shape)} has "
            f"{shape[row_axis]} rows along axis {row_axis}: allowed are divisors of that"
        )
    return shape[row_axis]


def rows_of(weight: Tensor, group: dict) -> Rows | None:
    """The units that may be projected, or None where `projection` and shape rule it out.

    Weights of fewer than two dimensions are projected only as a whole and on request.
    """
    layout = _layout if torch.compiler.is_compiling() else _remembered_layout
    rows = layout(
        weight.shape,
        weight.is_complex(),
        group["row_axis"],
        group["row_groups"],
        group["projection"],
    )
    return _of_shard(rows, weight, group) if rows and is_dtensor(weight) else rows


def _of_shard(rows: Rows, weight: Tensor, group: dict) -> Rows:
    """The units that this process has, or has a part of.

    Raises:
        ValueError: a process has a part of the rows of a unit.
    """
    if group["projection"] == "weight":
        return rows._replace(holders=holders_of(weight, None))
    axis = group["row_axis"] % weight.dim()
    here = local(weight).shape[axis]
    if here % rows.groups:
        raise ValueError(
            f"row_groups is {rows.groups}, but a process has {here} rows of a weight of shape "
            f"{tuple(weight.shape)}: allowed are shards of whole units"
        )
    shape = tuple(here if i == axis else n for i, n in enumerate(rows.spread_shape))
    holders = holders_of(weight, axis)
    return rows._replace(units=here // rows.groups, spread_shape=shape, holders=holders)


def _layout(
    shape: torch.Size, pairs: bool, row_axis: int, row_groups: int, projection: str
) -> Rows | None:
    real = (*shape, 2) if pairs else tuple(shape)
    size = torch.Size(real).numel()
    if projection == "weight":
        whole = Rows(1, 1, size, size, tuple(range(len(real))), (1,) * len(real))
        return whole if size > 1 else None
    if projection == "off" or len(shape) < 2 or size == 0:
        return None
    rows = row_count(tuple(shape), row_axis, row_groups)
    axis = row_axis % len(shape)
    others = tuple(i for i in range(len(real)) if i != axis)
    units = rows // row_groups
    spread_shape = tuple(rows if i == axis else 1 for i in range(len(real)))
    return Rows(units, row_groups, size // units, size, others, spread_shape)


_remembered_layout = lru_cache(maxsize=4096)(_layout)


class Table:
    """The units of several weights, one below another [units of all].

    Their device, dtype and holders are the same.
    """

    def __init__(self, rows: list[Rows], like: Tensor) -> None:
        self.rows, self.holders = rows, rows[0].holders
        if len(rows) == 1:
            self.fan, self.size, self.total = rows[0].fan, rows[0].size, self._sum
        else:
            sizes = tuple((r.units, r.fan, r.size) for r in rows)
            self.fan, self.size, self.owner, self.units = _columns(sizes, like.device, like.dtype)
            self.total = self._total

    def dots(self, xs: list[Tensor], ys: list[Tensor]) -> Tensor:
        """Inner product per unit of arrays shaped as the weights."""
        dots = torch.cat([r.dot(x, y) for r, x, y in zip(self.rows, xs, ys, strict=True)])
        return added_up(dots, self.holders.parts)

    def spread(self, values: Tensor) -> list[Tensor]:
        """One value a unit, shaped to broadcast over the weights."""
        parts = values.split([r.units for r in self.rows])
        return [r.spread(part) for r, part in zip(self.rows, parts, strict=True)]

    def of_weights(self, values: Tensor) -> Tensor:
        """One value a weight [weights], for every unit [units of all]."""
        return values.expand(self.rows[0].units) if len(self.rows) == 1 else values[self.owner]

    def _sum(self, values: Tensor) -> Tensor:
        return added_up(ordered_sum(values), self.holders.units)

    def _total(self, values: Tensor) -> Tensor:
        sums = torch.segment_reduce(values, "sum", lengths=self.units, unsafe=True)
        return added_up(sums, self.holders.units)[self.owner]


@lru_cache(maxsize=16)
def _columns(
    sizes: tuple[tuple[int, int, int], ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fan, size and owner of every unit [units of all]; the units of every weight [weights]."""
    units, fan, size = torch.tensor(sizes, device=device).unbind(1)
    owner = torch.arange(len(sizes), device=device).repeat_interleave(units)
    return fan.to(dtype)[owner], size.to(dtype)[owner], owner, units
