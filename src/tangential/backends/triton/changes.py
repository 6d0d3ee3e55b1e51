"""The launches around the step of any optimizer: copies, sums and amends, as `native` has them."""

import math
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends.native import WeightChange, has_blocks, is_dense, is_plain
from tangential.backends.sharded import freed
from tangential.backends.sums import Table
from tangential.backends.triton.available import runs_on
from tangential.backends.triton.launches import import_kernels, table, tiles_of
from tangential.backends.triton.plan import is_capturing

WARPS_AROUND = 8  # with 4, registers spill on sm_80
PIECE = 2**14  # most elements of a unit that one program reads


def can_measure(change: WeightChange) -> bool:
    """Whether the kernels can copy and amend a weight, and sum the products of a change."""
    w, parts = change.before, [change.before, change.after, change.grad]
    if torch.compiler.is_compiling() or not runs_on(w.device) or is_capturing(w.device):
        return False
    alike = (w.device, torch.float32)
    if not all(is_plain(x) and (x.device, x.dtype) == alike and not freed(x) for x in parts):
        return False
    return is_dense(w, parts) and has_blocks(w, change.rows, change.units.row_axis)


def measure(changes: list[WeightChange], *, copies: bool = False) -> Tensor:
    """ww, gg, gw, ew and ee [units of all, 5]: the first three with `copies`, else the others.

    With `copies`, every `before` is first copied to its `after`.
    """
    layout = _layout(changes)
    t = _tables(changes, layout)
    with torch.cuda.device_of(t.tiles):
        import_kernels().measure[(len(layout.tiles),)](t, copies, num_warps=WARPS_AROUND)
    ww, xw, xx = layout.of_units(t.sums).unbind(1)
    zeros = torch.zeros_like(ww)
    products = (ww, xx, xw, zeros, zeros) if copies else (zeros, zeros, zeros, xw, xx)
    return torch.stack(products, 1)


def amend(
    changes: list[WeightChange],
    whole: Tensor,
    scale: Tensor | None,
    shrink: Tensor,
    slope: Tensor | None = None,
) -> None:
    """As `native.amend`; weights that may be projected as a whole need a second launch."""
    layout = _layout(changes)
    t = _tables(changes, layout, whole=whole, scale=scale, shrink=shrink, slope=slope)
    torch.autograd.graph.increment_version([change.after for change in changes])
    _launch(t, linear=slope is not None, late=False)
    if slope is None or (changes[0].units.projection == "row" and layout.lengths is None):
        return
    ew = layout.of_units(t.sums)[:, 1].contiguous()
    total = Table([change.rows for change in changes], shrink).total(ew)
    more = slope * torch.where(whole, total, ew)
    shrink = shrink + torch.where(more.isfinite(), more, 0.0)
    _launch(t._replace(shrink=shrink, slope=None), linear=False, late=True)


def _launch(t: Any, *, linear: bool, late: bool) -> None:
    with torch.cuda.device_of(t.tiles):
        import_kernels().amend_changes[(len(t.tiles),)](t, linear, late, num_warps=WARPS_AROUND)


class _Layout(NamedTuple):
    """Where the pieces of weights are; `lengths`: pieces per unit, None if it is always one."""

    columns: Tensor
    tiles: Tensor
    pieces: int
    lengths: Tensor | None

    def of_units(self, sums: Tensor) -> Tensor:
        """The sums [units of all, 3] of those of pieces."""
        if self.lengths is None:
            return sums
        return torch.segment_reduce(sums, "sum", lengths=self.lengths, unsafe=True)


def _layout(changes: list[WeightChange]) -> _Layout:
    sizes = tuple((change.rows.units, change.rows.unit_size) for change in changes)
    return _layout_of(sizes, changes[0].before.device)


# One entry per group; it has three numbers per tile.
@lru_cache(maxsize=128)
def _layout_of(sizes: tuple[tuple[int, int], ...], device: torch.device) -> _Layout:
    units, unit_sizes = (list(column) for column in zip(*sizes, strict=True))
    splits = [math.ceil(k / PIECE) for k in unit_sizes]
    piece_sizes = [math.ceil(k / n) for k, n in zip(unit_sizes, splits, strict=True)]
    pieces = [n * m for n, m in zip(units, splits, strict=True)]
    firsts = [list(accumulate(counts[:-1], initial=0)) for counts in (pieces, units)]
    columns = torch.tensor([splits, units], device="cpu")
    lengths = columns[0].repeat_interleave(columns[1])
    return _Layout(
        table([pieces, splits, piece_sizes, unit_sizes, *firsts], device),
        tiles_of(pieces, piece_sizes, device),
        sum(pieces),
        lengths.to(device, non_blocking=True) if max(splits) > 1 else None,
    )


def _tables(changes: list[WeightChange], layout: _Layout, **values: Tensor | None) -> Any:
    addresses = [
        [x.data_ptr() for x in column]
        for column in zip(*((c.before, c.after, c.grad) for c in changes), strict=True)
    ]
    device, numbers = changes[0].before.device, ("whole", "scale", "shrink", "slope")
    return import_kernels().Changes(
        *table(addresses, device).unbind(),
        *layout.columns.unbind(),
        tiles=layout.tiles,
        sums=torch.empty(layout.pieces, 3, device=device),
        **{name: values.get(name) for name in numbers},
    )
