"""Which rows of a weight form one scale-invariant unit, for weights of every array library."""

from math import prod
from typing import Any, Literal, NamedTuple, get_args

Projection = Literal["auto", "row", "weight", "off"]


class Units(NamedTuple):
    """What is projected as one vector: `row_groups` rows along `row_axis`, or the whole weight.

    >>> Units("row", row_groups=16)._asdict()  # options of a parameter group
    {'projection': 'row', 'row_axis': 0, 'row_groups': 16}
    """

    projection: Projection
    row_axis: int = 0
    row_groups: int = 1


class Layout(NamedTuple):
    """Where the units of a weight lie. The axes are those of its real view."""

    units: int
    rows_per_unit: int
    unit_size: int
    size: int  # of the whole weight
    other_axes: tuple[int, ...]
    spread_shape: tuple[int, ...]

    def dot(self, x: Any, y: Any) -> Any:
        """Inner product per unit [units] of two weight-shaped arrays."""
        return self.summed((x * y).sum(self.other_axes))

    def summed(self, rows: Any) -> Any:
        """The sums per unit [units] of numbers per row."""
        return rows.reshape(self.units, self.rows_per_unit).sum(1)

    def spread(self, xp: Any, values: Any) -> Any:
        """One value per unit [units], shaped to broadcast over the weight."""
        rows = xp.broadcast_to(values[:, None], (self.units, self.rows_per_unit))
        return rows.reshape(self.spread_shape)


def layout_of(shape: tuple[int, ...], units: Units, *, pairs: bool = False) -> Layout | None:
    """The units that may be projected; None if `projection` or the shape excludes projection.

    Weights of fewer than two dimensions are projected only with `projection="weight"`. A complex
    weight counts as `pairs` of reals, [*shape, 2].

    Raises:
        ValueError: `row_axis` is not an axis, or `row_groups` does not divide the rows.
    """
    projection, row_axis, row_groups = units
    real_shape = (*shape, 2) if pairs else tuple(shape)
    axes, size = range(len(real_shape)), prod(real_shape)
    if projection == "weight":
        return Layout(1, 1, size, size, tuple(axes), (1,) * len(axes)) if size > 1 else None
    if projection == "off" or len(shape) < 2 or size == 0:
        return None
    if not -len(shape) <= row_axis < len(shape):
        raise ValueError(
            f"row_axis is {row_axis}, but a weight has shape {tuple(shape)}: "
            f"expected {-len(shape)} to {len(shape) - 1}"
        )
    rows, axis = shape[row_axis], row_axis % len(shape)
    if rows % row_groups:
        raise ValueError(
            f"row_groups is {row_groups}, but a weight of shape {tuple(shape)} has "
            f"{rows} rows along axis {row_axis}: expected a divisor of that"
        )
    count, other_axes = rows // row_groups, tuple(i for i in axes if i != axis)
    spread_shape = tuple(rows if i == axis else 1 for i in axes)
    return Layout(count, row_groups, size // count, size, other_axes, spread_shape)


def check_projection(projection: Any) -> None:
    """Raise a ValueError if this is no `Projection`."""
    words = get_args(Projection)
    if projection not in words:
        raise ValueError(
            f"projection must be {' or '.join(map(repr, words))}, got {projection!r:.200}"
        )
