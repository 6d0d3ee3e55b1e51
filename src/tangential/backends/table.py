"""Sums per unit of many weights at once, in few operations."""

from functools import lru_cache

import torch
from torch import Tensor

from tangential.backends.rows import NORM_FAN, Rows, ordered_sum
from tangential.backends.sharded import added_up


class Table:
    """The units of several weights, one below another [units of all].

    Their device, dtype and holders are the same.
    """

    def __init__(self, rows: list[Rows], like: Tensor) -> None:
        self.rows, self.like, self.shard_groups = rows, like, rows[0].shard_groups
        if len(rows) == 1:
            self.fan, self.size = rows[0].fan, rows[0].size
        else:
            sizes = tuple((r.units, r.fan, r.size) for r in rows)
            self.fan, self.size, self.owner, self.units = _columns(sizes, like.device, like.dtype)

    def dots(self, xs: list[Tensor | None], ys: list[Tensor | None]) -> Tensor:
        """Inner product per unit [units of all] of arrays shaped as the weights, of what is here.

        None stands for an array of zeros.
        """
        pairs = zip(self.rows, xs, ys, strict=True)
        known = [(r, x, y) for r, x, y in pairs if x is not None and y is not None]
        dots = iter(_dots(known, squares=xs is ys) if known else ())
        if len(known) == len(self.rows):
            return torch.cat(list(dots))
        return torch.cat(
            [
                self.like.new_zeros(r.units) if x is None or y is None else next(dots)
                for r, x, y in zip(self.rows, xs, ys, strict=True)
            ]
        )

    def spread(self, values: Tensor) -> list[Tensor]:
        """One value a unit, shaped to broadcast over the weights."""
        parts = values.split([r.units for r in self.rows])
        return [r.spread(part) for r, part in zip(self.rows, parts, strict=True)]

    def of_weights(self, values: Tensor) -> Tensor:
        """One value a weight [weights], for every unit [units of all]."""
        return values.expand(self.rows[0].units) if len(self.rows) == 1 else values[self.owner]

    def totals(self, values: list[Tensor]) -> list[Tensor]:
        """Of every array of values [units of all] the sums [weights] over the units here."""
        if len(self.rows) == 1:
            return [ordered_sum(value).view(1) for value in values]
        stacked = torch.stack(values, dim=1)
        sums = torch.segment_reduce(stacked, "sum", lengths=self.units, unsafe=True)
        return list(sums.unbind(1))

    def total(self, values: Tensor) -> Tensor:
        """The sum over the units of the same weight on all processes, for every unit."""
        (sums,) = self.totals([values])
        return self.of_weights(added_up(sums, self.shard_groups.units))


def _dots(weights: list[tuple[Rows, Tensor, Tensor]], *, squares: bool) -> list[Tensor]:
    """Per weight the inner products of its units, few operations for all."""
    rows = [r for r, _, _ in weights]
    if squares and all(r.fan <= NORM_FAN for r in rows):
        norms = [r.norms(x) for r, x, _ in weights]
        values = torch.cat(norms).square().split([len(norm) for norm in norms])
        return [r.of_rows(square) for r, square in zip(rows, values, strict=True)]
    if squares:
        return [r.dot(x, y) for r, x, y in weights]
    products = torch._foreach_mul([x for _, x, _ in weights], [y for _, _, y in weights])
    return [r.sums(x) for r, x in zip(rows, products, strict=True)]


# Their number is that of the parameter groups times batches; each is as long as the weights' rows.
@lru_cache(maxsize=1024)
def _columns(
    sizes: tuple[tuple[int, int, int], ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fan, size and owner of every unit [units of all]; the units of every weight [weights].

    Made on the CPU and copied without waiting for the device.
    """
    units, fan, size = torch.tensor(sizes, device="cpu").unbind(1)
    owner = torch.arange(len(sizes), device="cpu").repeat_interleave(units)
    columns = fan.to(dtype)[owner], size.to(dtype)[owner], owner, units
    fan, size, owner, units = (x.to(device, non_blocking=True) for x in columns)
    return fan, size, owner, units
