"""Which parts of a weight are scale-invariant, judged from inner products with its gradients.

f(c w) = f(w) for every c > 0 is Euler's identity for degree 0: g.w = 0 wherever g is taken. A
chance pair of n elements has sqrt(n) |cos(w, g)| of order 1; an invariant unit has rounding left.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from tangential.backends import Rows, Units, real, rows_of

# Largest sqrt(elements) |cos| of an invariant unit. A constant inside a normalisation that nobody
# can see leaves eps/variance, about 1e-5; chance stays below 1e-3 once in 1,250 gradients.
TOLERANCE = 1e-3


ROWS, WHOLE = Units("row"), Units("weight")


class Verdict(NamedTuple):
    """What the gradients say of a weight.

    `kind` is "row", "weight", "variant" or "dead" (no gradient on any batch); `radial` the largest
    sqrt(elements) |cos(w, g)| of a unit; `unseen` counts units without a gradient; `part` says in
    words which rows of a scale-variant weight are invariant all the same; `unreached` is a dead
    weight that autograd never reached.
    """

    kind: str
    units: Units = WHOLE
    radial: float = 0.0
    unseen: int = 0
    part: str = ""
    unreached: bool = False


class Evidence:
    """Inner products of a weight and its gradients, per row of every axis.

    Args:
        weight: Of any shape, float64 or complex128.

    >>> evidence = Evidence(torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64))
    >>> _ = evidence.add(torch.tensor([[4.0, -3.0], [0.0, 2.0]], dtype=torch.float64))
    >>> judge(evidence, [0.0]).units
    Units(projection='row', row_axis=0, row_groups=1)
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = real(weight.detach())
        self.shape, self.size = tuple(weight.shape), self.weight.numel()
        self.axes = [_rows(weight, Units("row", axis)) for axis in range(weight.dim())]
        self.reached = False
        self.products: list[list[tuple[Tensor, Tensor]]] = []
        self.norms = [self._dot(rows, self.weight, self.weight) for rows in self._views]

    @property
    def _views(self) -> list[Rows | None]:
        """Rows along every axis; for a vector, a scalar or an empty weight the whole (None)."""
        return self.axes if len(self.shape) > 1 and self.size else [None]

    def _dot(self, rows: Rows | None, x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum().view(1) if rows is None else rows.dot(x, y)

    def add(self, grad: Tensor | None) -> float:
        """Take the gradient of one more batch; return |w||g|."""
        self.reached |= grad is not None
        g = torch.zeros_like(self.weight) if grad is None else real(grad)
        self.products.append(
            [(self._dot(r, g, g), self._dot(r, g, self.weight)) for r in self._views]
        )
        return (self.norms[0].sum() * self.products[-1][0][0].sum()).sqrt().item()

    @property
    def pull(self) -> float:
        """Largest |g| where the weight is zero; else 0."""
        largest = max(batch[0][0].sum().sqrt().item() for batch in self.products)
        return 0.0 if self.norms[0].any() else largest

    def radial(self, units: Units, floor: Iterable[float]) -> Tensor:
        """sqrt(elements) |cos(w, g)| [batches, units]; NaN where |w||g| is below the batch's floor.

        A unit of one element has no tangent space: whatever gradient it has is radial.
        """
        ww, gg, gw = self._sums(units)
        norms = (ww * gg).sqrt()
        least = torch.tensor(list(floor), dtype=norms.dtype, device=norms.device)[:, None]
        shares = (self.size / max(len(ww), 1)) ** 0.5 * gw.abs() / norms
        return torch.where(norms > least, shares, torch.nan)

    def weighted(self, units: Units) -> float:
        """Largest sqrt(elements) |cos| of a batch over all units, each weighted by its gradient."""
        ww, gg, gw = self._sums(units)
        norms = (ww * gg).sum(1)
        shares = (self.size / max(len(ww), 1) * gw.square().sum(1) / norms).sqrt()
        return _largest(shares)

    def _sums(self, units: Units) -> tuple[Tensor, Tensor, Tensor]:
        """w.w [units], g.g and g.w [batches, units]."""
        axis = units.row_axis

        def per_unit(values: Tensor) -> Tensor:
            if units.projection == "weight":
                return values.sum().view(1)
            return values.view(-1, units.row_groups).sum(1)

        ww = per_unit(self.norms[axis])
        gg = torch.stack([per_unit(batch[axis][0]) for batch in self.products])
        gw = torch.stack([per_unit(batch[axis][1]) for batch in self.products])
        return ww, gg, gw


def _rows(weight: Tensor, units: Units) -> Rows | None:
    return rows_of(weight, units)


def described(units: Units) -> str:
    """How a weight is scale-invariant, in words.

    >>> described(Units("row", 1)), described(Units("row", 0, 16)), described(WHOLE)
    ('by row of axis 1', 'by unit of 16 rows', 'as a whole')
    """
    if units == WHOLE:
        return "as a whole"
    along = f" of axis {units.row_axis}" if units.row_axis else ""
    return ("by row" if units.row_groups == 1 else f"by unit of {units.row_groups} rows") + along


def judge(evidence: Evidence, floor: list[float]) -> Verdict:
    """The finest units along any axis that all batches show to be scale-invariant.

    Args:
        evidence: Of a weight over all batches.
        floor: |w||g| per batch up to which a gradient is rounding.
    """
    whole = evidence.radial(WHOLE, floor)
    if whole.isnan().all():
        at_zero = evidence.pull > max(floor)  # a weight of zero has no direction to be scaled
        return Verdict("variant") if at_zero else Verdict("dead", unreached=not evidence.reached)
    if _largest(whole) > TOLERANCE:  # an invariant part cannot make up for one that is not
        return Verdict("variant", radial=_largest(whole), part=_part(evidence, floor))
    for units in candidates(evidence.shape):
        shares = evidence.radial(units, floor)
        if not shares.isnan().all() and _largest(shares) <= TOLERANCE:
            unseen = int(shares.isnan().all(0).sum())
            return Verdict("row", units, _largest(shares), unseen)
    return Verdict("weight", radial=_largest(whole))


def _largest(shares: Tensor) -> float:
    return shares.nan_to_num(0.0).max().item()


def candidates(shape: tuple[int, ...]) -> list[Units]:
    """Every way to split a weight of `shape` into groups of consecutive rows, the finest first.

    >>> [(units.row_axis, units.row_groups) for units in candidates((4, 2))]
    [(0, 1), (0, 2), (1, 1)]
    """
    if len(shape) < 2:
        return []
    splits = [
        (rows // groups, Units("row", axis, groups))
        for axis, rows in enumerate(shape)
        for groups in range(1, rows // 2 + 1)
        if rows % groups == 0
    ]
    single = [(1, ROWS)] if shape[0] == 1 else []  # one row, the whole: projected by row
    return [units for _, units in sorted(splits + single, key=lambda split: -split[0])]


def _part(evidence: Evidence, floor: list[float]) -> str:
    """The rows that are invariant, if a twentieth is: a head, or queries and keys, not values."""
    best, rows = 0.05, ""
    for units in candidates(evidence.shape):
        shares = evidence.radial(units, floor)
        holds = (shares.nan_to_num(0.0) <= TOLERANCE).all(0) & ~shares.isnan().all(0)
        if (share := holds.float().mean().item()) > best:
            best, rows = share, _words(holds.tolist(), units)
    return rows


def _words(holds: list[bool], units: Units) -> str:
    """The rows of the units that hold, as ranges.

    >>> _words([True, True, False, True], Units("row", 0, 8))
    'rows 0-15, 24-31 along axis 0, in units of 8'
    """
    ranges, k = [], units.row_groups
    for held, run in groupby(range(len(holds)), key=holds.__getitem__):
        numbers = list(run)
        if held:
            ranges.append(f"{numbers[0] * k}-{(numbers[-1] + 1) * k - 1}")
    shown = ", ".join(ranges[:4]) + (", ..." if len(ranges) > 4 else "")
    return f"rows {shown} along axis {units.row_axis}" + (f", in units of {k}" if k > 1 else "")


def rescaled(weight: Tensor, units: Units, generator: torch.Generator) -> Tensor:
    """The weight, every unit times a random factor between 1/2 and 2, none within 1.4 of 1.

    >>> weight = rescaled(torch.ones(2, 3), ROWS, torch.Generator().manual_seed(0))
    >>> weight.std(1).tolist(), bool(weight[0, 0] == weight[1, 0])
    ([0.0, 0.0], False)
    """
    rows = _rows(weight, units)
    draws = torch.rand(
        2, rows.units if rows else 1, generator=generator, dtype=torch.float64, device="cpu"
    )
    factors = torch.where(draws[0] < 0.5, 0.5, -0.5) * (1 + draws[1])
    factors = torch.exp2(factors).to(real(weight))
    changed = real(weight) * (rows.spread(factors) if rows else factors.view(()))
    return torch.view_as_complex(changed) if weight.is_complex() else changed.to(weight.dtype)


def shaken(weight: Tensor, distance: float, generator: torch.Generator) -> Tensor:
    """The weight, moved by `distance` in a random direction."""
    values = real(weight)
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64, device="cpu").to(
        values
    )
    moved = values + noise * (distance / noise.norm().clamp_min(1e-300))
    return torch.view_as_complex(moved) if weight.is_complex() else moved
