"""Which units of a weight are scale-invariant, judged from its inner products with its gradients.

f(c w) = f(w) for every c > 0 is Euler's identity for degree 0: g.w = 0 for every gradient g. For a
random pair of n elements, sqrt(n) |cos(w, g)| is of order 1; an invariant unit has rounding error.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tangential.backends import Units, as_real, rows_of

Kind = Literal["row", "weight", "variant", "dead"]

# Largest sqrt(elements) |cos| of an invariant unit. A normalisation that hides its eps leaves
# eps/variance, about 1e-5. A random gradient is below 1e-3 once in 1,250 times.
TOLERANCE = 1e-3

ROWS, WHOLE = Units("row"), Units("weight")


class Finding(NamedTuple):
    """What the gradients say about one weight; "dead" is one without a gradient on any batch."""

    kind: Kind
    units: Units = WHOLE  # the scale-invariant units
    radial: float = 0.0  # largest sqrt(elements) |cos(w, g)| of a unit
    unseen: int = 0  # number of units without a gradient
    part: str = ""  # in words, which rows are invariant although the weight is not
    reached: bool = True  # whether autograd gave the weight a gradient at all

    @property
    def invariant(self) -> bool:
        """Whether the weight is scale-invariant, by unit or as a whole."""
        return self.kind in ("row", "weight")


class Evidence:
    """Inner products of a weight of any shape with its gradients, per row along every axis."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = as_real(weight.detach())
        self.shape, self.size = tuple(weight.shape), self.weight.numel()
        by_axis = weight.dim() > 1 and self.size > 0
        axes = range(weight.dim()) if by_axis else []
        self.views = [rows_of(weight, Units("row", axis)) for axis in axes] or [None]
        self.ww = self._products(self.weight, self.weight)
        self.gg: list[list[Tensor]] = []  # [batches][axes], each [rows]
        self.gw: list[list[Tensor]] = []
        self.reached = False

    def _products(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Inner products per row along every axis; a vector or a scalar has only one."""
        return [(x * y).sum().view(1) if view is None else view.dot(x, y) for view in self.views]

    def add(self, grad: Tensor | None) -> float:
        """Add the gradient of one more batch; return |w||g|."""
        self.reached |= grad is not None
        g = torch.zeros_like(self.weight) if grad is None else as_real(grad)
        self.gg.append(self._products(g, g))
        self.gw.append(self._products(g, self.weight))
        return (self.ww[0].sum() * self.gg[-1][0].sum()).sqrt().item()

    def radial(self, units: Units, floor: Iterable[float]) -> Tensor:
        """sqrt(elements) |cos(w, g)| [batches, units]; NaN where |w||g| is below the batch's floor.

        A unit of one element has no tangent space: all of its gradient is radial.
        """
        ww, gg, gw = self._per_unit(units)
        norms = (ww * gg).sqrt()
        least = torch.tensor(list(floor), dtype=norms.dtype, device=norms.device)[:, None]
        shares = (self.size / max(len(ww), 1)) ** 0.5 * gw.abs() / norms
        return torch.where(norms > least, shares, torch.nan)

    def rms_radial(self, units: Units) -> float:
        """Largest over batches of the RMS over units, weighted by |w||g|."""
        ww, gg, gw = self._per_unit(units)
        norms = (ww * gg).sum(1)
        return _largest((self.size / max(len(ww), 1) * gw.square().sum(1) / norms).sqrt())

    def _per_unit(self, units: Units) -> tuple[Tensor, Tensor, Tensor]:
        """w.w [units], g.g and g.w [batches, units]."""
        axis = units.row_axis

        def summed(rows: Tensor) -> Tensor:
            if units.projection == "weight":
                return rows.sum().view(1)
            return rows.view(-1, units.row_groups).sum(1)

        gg, gw = (torch.stack([summed(b[axis]) for b in batches]) for batches in (self.gg, self.gw))
        return summed(self.ww[axis]), gg, gw


def _largest(shares: Tensor) -> float:
    """The largest share; NaN counts as 0."""
    return shares.nan_to_num(0.0).max().item()


def judge(evidence: Evidence, floor: list[float]) -> Finding:
    """Find the finest units along any axis that are scale-invariant on all batches.

    `floor` is the |w||g| of each batch up to which a gradient counts as rounding error.
    """
    whole = evidence.radial(WHOLE, floor)
    if whole.isnan().all():
        largest = max(batch[0].sum().sqrt().item() for batch in evidence.gg)
        if largest > max(floor) and not evidence.ww[0].any():  # a weight of zero has no direction
            return Finding("variant")
        return Finding("dead", reached=evidence.reached)
    if _largest(whole) > TOLERANCE:  # one part that is not invariant is enough
        return Finding("variant", radial=_largest(whole), part=_invariant_part(evidence, floor))
    for units in possible_units(evidence.shape):
        shares = evidence.radial(units, floor)
        if not shares.isnan().all() and _largest(shares) <= TOLERANCE:
            unseen = int(shares.isnan().all(0).sum())
            return Finding("row", units, _largest(shares), unseen)
    return Finding("weight", radial=_largest(whole))


def possible_units(shape: tuple[int, ...]) -> list[Units]:
    """Every way to split a weight of `shape` into groups of consecutive rows, the finest first.

    >>> [(units.row_axis, units.row_groups) for units in possible_units((4, 2))]
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
    single = [(1, ROWS)] if shape[0] == 1 else []  # the only row is the whole weight
    return [units for _, units in sorted(splits + single, key=lambda split: -split[0])]


def _invariant_part(evidence: Evidence, floor: list[float]) -> str:
    """The invariant rows in words, if they are more than 5 %: a head, or queries and keys."""
    best, words = 0.05, ""
    for units in possible_units(evidence.shape):
        shares = evidence.radial(units, floor)
        invariant = (shares.nan_to_num(0.0) <= TOLERANCE).all(0) & ~shares.isnan().all(0)
        if (share := invariant.float().mean().item()) > best:
            best, words = share, _row_ranges(invariant.tolist(), units)
    return words


def _row_ranges(invariant: list[bool], units: Units) -> str:
    """The rows of the invariant units, as ranges.

    >>> _row_ranges([True, True, False, True], Units("row", 0, 8))
    'rows 0-15, 24-31 along axis 0, in units of 8'
    """
    ranges, groups = [], units.row_groups
    for holds, neighbours in groupby(range(len(invariant)), key=invariant.__getitem__):
        numbers = list(neighbours)
        if holds:
            ranges.append(f"{numbers[0] * groups}-{(numbers[-1] + 1) * groups - 1}")
    shown = ", ".join(ranges[:4]) + (", ..." if len(ranges) > 4 else "")
    grouped = f", in units of {groups}" if groups > 1 else ""
    return f"rows {shown} along axis {units.row_axis}{grouped}"


def units_in_words(units: Units) -> str:
    """How a weight is scale-invariant, in words.

    >>> units_in_words(Units("row", 1)), units_in_words(Units("row", 0, 16)), units_in_words(WHOLE)
    ('by row of axis 1', 'by unit of 16 rows', 'as a whole')
    """
    if units == WHOLE:
        return "as a whole"
    along = f" of axis {units.row_axis}" if units.row_axis else ""
    return ("by row" if units.row_groups == 1 else f"by unit of {units.row_groups} rows") + along
