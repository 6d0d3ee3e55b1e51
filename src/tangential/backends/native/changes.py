"""The step of any optimizer: copies of weights before it, what it did to them, and amends."""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from tangential.backends.native.compiled import kernel
from tangential.backends.native.layouts import has_blocks, is_dense, is_plain
from tangential.backends.rows import Rows
from tangential.backends.sharded import freed
from tangential.units import Units


class WeightChange(NamedTuple):
    """A weight before a step and after it, its gradient, and `keep`: after = keep before + e."""

    before: Tensor
    after: Tensor
    grad: Tensor
    rows: Rows
    units: Units
    keep: float = 1.0


def can_measure(change: WeightChange) -> bool:
    """Whether the kernel can copy and amend a weight, and sum the products of a change."""
    w, parts = change.before, [change.before, change.after, change.grad]
    real_and_wide = w.dtype in (torch.float32, torch.float64)
    on_cpu = all(is_plain(x) and x.is_cpu and x.dtype == w.dtype and not freed(x) for x in parts)
    blocks = is_dense(w, parts) and has_blocks(w, change.rows, change.units.row_axis)
    return bool(kernel and real_and_wide and on_cpu and blocks)


def measure(changes: list[WeightChange], *, copies: bool = False) -> Tensor:
    """ww, gg, gw, ew and ee [units of all, 5] of changes that `can_measure` accepts.

    With `copies`, every `before` is first copied to its `after`.
    """
    layouts = [(*_layout(change), change.grad.data_ptr(), change.keep) for change in changes]
    units = sum(change.rows.units for change in changes)
    sums = torch.zeros(units, 5, dtype=torch.float64, device="cpu")
    kernel.measure_changes(layouts, sums, torch.get_num_threads(), copies)
    return sums


def amend(
    changes: list[WeightChange],
    whole: Tensor,
    scale: Tensor | None,
    shrink: Tensor,
    slope: Tensor | None = None,
) -> None:
    """Make every `after` before + scale e - (shrink + slope e.before) before, in place.

    Args:
        changes: Changes that `can_measure` accepts; their gradients are not used.
        whole: Whether e.before is that of the whole weight [units of all].
        scale: [units of all] float64, as `shrink` and `slope`; None for 1.
        shrink: See `scale`.
        slope: None for 0.
    """
    firsts = list(accumulate((change.rows.units for change in changes[:-1]), initial=0))
    by_weight = whole[firsts].tolist()
    layouts = [(*_layout(change), x) for change, x in zip(changes, by_weight, strict=True)]
    torch.autograd.graph.increment_version([change.after for change in changes])
    kernel.amend_changes(layouts, scale, shrink, slope, torch.get_num_threads())


def _layout(change: WeightChange) -> tuple[object, ...]:
    return (
        kernel.Dtype[str(change.before.dtype).removeprefix("torch.")],
        *(change.rows.units, change.rows.unit_size),
        *(x.data_ptr() for x in (change.before, change.after)),
    )
