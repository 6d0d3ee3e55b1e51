"""What a step changed in weights: inner products of copies and gradients, for a monitor."""

from typing import NamedTuple

import torch
from torch import Tensor

from tangential.backends.native.compiled import kernel
from tangential.backends.native.layouts import has_blocks, is_dense, is_plain
from tangential.backends.rows import Rows, Units
from tangential.backends.sharded import freed


class WeightChange(NamedTuple):
    """A weight before a step and after it, its gradient, and `keep`: after = keep before + e."""

    before: Tensor
    after: Tensor
    grad: Tensor
    rows: Rows
    units: Units
    keep: float


def can_measure(change: WeightChange) -> bool:
    """Whether the kernel can sum the products of a change."""
    w, parts = change.before, [change.before, change.after, change.grad]
    real_and_wide = w.dtype in (torch.float32, torch.float64)
    on_cpu = all(is_plain(x) and x.is_cpu and x.dtype == w.dtype and not freed(x) for x in parts)
    blocks = is_dense(w, parts) and has_blocks(w, change.rows, change.units.row_axis)
    return bool(kernel and real_and_wide and on_cpu and blocks)


def measure(changes: list[WeightChange]) -> list[Tensor]:
    """Per unit ww, gg, gw, ew and ee [5, units] of every change that `can_measure` accepts."""
    layouts = [
        (
            kernel.Dtype[str(change.before.dtype).removeprefix("torch.")],
            *(change.rows.units, change.rows.unit_size),
            *(x.data_ptr() for x in (change.before, change.after, change.grad)),
            change.keep,
        )
        for change in changes
    ]
    units = [change.rows.units for change in changes]
    sums = torch.zeros(sum(units), 5, dtype=torch.float64, device="cpu")
    kernel.measure_moved(layouts, sums, torch.get_num_threads())
    return [part.T for part in sums.split(units)]
