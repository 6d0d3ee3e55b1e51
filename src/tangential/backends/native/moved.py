"""How far weights moved in a step: inner products of copies and gradients, for a monitor."""

from typing import NamedTuple

import torch
from torch import Tensor

from tangential.backends.native.compiled import kernel
from tangential.backends.native.layouts import has_blocks, is_dense, is_plain
from tangential.backends.rows import Rows, Units
from tangential.backends.sharded import freed


class Move(NamedTuple):
    """A weight before a step and after it, its gradient, and `keep`: after = keep before + e."""

    before: Tensor
    after: Tensor
    grad: Tensor
    rows: Rows
    units: Units
    keep: float


def takes(move: Move) -> bool:
    """Whether the kernel can sum the products of a move."""
    w, parts = move.before, [move.before, move.after, move.grad]
    real_and_wide = w.dtype in (torch.float32, torch.float64)
    here = all(is_plain(x) and x.is_cpu and x.dtype == w.dtype and not freed(x) for x in parts)
    blocks = is_dense(w, parts) and has_blocks(w, move.rows, move.units.row_axis)
    return bool(kernel and real_and_wide and here and blocks)


def products(moves: list[Move]) -> list[Tensor]:
    """Per unit ww, gg, gw, ew and ee [5, units] of every move; `takes` must be true for each."""
    layouts = [
        (
            kernel.Dtype[str(move.before.dtype).removeprefix("torch.")],
            *(move.rows.units, move.rows.fan),
            *(x.data_ptr() for x in (move.before, move.after, move.grad)),
            move.keep,
        )
        for move in moves
    ]
    units = [move.rows.units for move in moves]
    sums = torch.zeros(sum(units), 5, dtype=torch.float64, device="cpu")
    kernel.measure_moved(layouts, sums, torch.get_num_threads())
    return [part.T for part in sums.split(units)]
