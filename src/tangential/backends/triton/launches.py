"""The launches of the kernels for weights of one device and of equal dtypes."""

import math
from importlib import import_module
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from tangential.backends.batch import Scaling, State, StepOptions, WeightState
from tangential.backends.native import fields
from tangential.backends.rounding import LOST, hashed
from tangential.backends.sums import StepSums, Watch, step_sums
from tangential.backends.triton.available import takes

TILE = 2048  # elements; a tile has one row, or several short ones
WIDTHS = (16, 64, 256, 1024, TILE)  # of short rows; a longer row is read in pieces
NEVER_PROJECTED = -1
WARPS = 4


class Launches:
    """Weights of one device and of equal dtypes."""

    def __init__(
        self, weights: list[WeightState], device: torch.device, *dtypes: torch.dtype
    ) -> None:
        self.params = [weight.param for weight in weights]
        self.rows = [weight.rows for weight in weights]
        self.device, self.dtypes = device, dtypes
        unit_sizes = [rows.unit_size if rows else TILE for rows in self.rows]
        sizes = [param.numel() for param in self.params]
        units = [math.ceil(n / k) for n, k in zip(sizes, unit_sizes, strict=True)]
        judged = [n if rows else 0 for n, rows in zip(units, self.rows, strict=True)]
        firsts = [
            first if rows else NEVER_PROJECTED
            for first, rows in zip(accumulate(judged, initial=0), self.rows, strict=False)
        ]
        seeds = [hashed(weight.position + 0x9E3779B9) for weight in weights]
        self.units = sum(judged)
        self.columns = self._array([units, unit_sizes, sizes, firsts, seeds])
        tiles = [
            tile
            for i, (count, k) in enumerate(zip(units, unit_sizes, strict=True))
            for tile in _tiles(i, count, k)
        ]
        self.tiles = self._array(tiles).int()
        self.known: list[Any] = []
        self.addresses = self._array([])

    def _array(self, values: list[Any]) -> Tensor:
        """Integers on the device, copied without waiting for it."""
        return torch.tensor(values, dtype=torch.int64, device="cpu").to(
            self.device, non_blocking=True
        )

    def locate(self, options: StepOptions, states: dict[Tensor, State]) -> bool:
        """Find all addresses; False if the kernels cannot step a weight any more."""
        weights = [
            WeightState(param, states.get(param, {}), rows, 0)
            for param, rows in zip(self.params, self.rows, strict=True)
        ]
        names = fields(options)
        tensors = [
            [weight.param, weight.param.grad, *(weight.state.get(name) for name in names)]
            for weight in weights
        ]
        layouts = [
            [None if x is None else (x.data_ptr(), x.dtype, x.stride()) for x in some]
            for some in tensors
        ]
        if layouts == self.known:
            return True
        if not all(weight.has_grad and takes(weight, options) for weight in weights):
            return False
        steps = [weight.state["step"] for weight in weights if "step" in weight.state]
        if not all(x.device == self.device and x.dtype == torch.float32 for x in steps):
            return False
        self.known = layouts
        by_weight = [[x[0] if x else 0 for x in some] for some in layouts]
        self.addresses = self._array(by_weight).T.contiguous()
        return True

    def step(self, options: StepOptions, scaling: Scaling, watch: Watch | None) -> None:
        """The four launches."""
        kernels = _kernels()
        watched = watch is not None and self.units > 0
        form = _form(options, self.dtypes, scaling, watched=watched)
        tables, numbers = self._tables(options, scaling), _numbers(options)
        torch.autograd.graph.increment_version(self.params)
        judged = form.projection != kernels.OFF and self.units > 0
        every, each = (len(self.params),), (len(self.tiles),)
        kernels.guess[every](tables, numbers, form)
        if len(self.tiles):
            kernels.advance[each](tables, numbers, form, num_warps=WARPS)
        if judged:
            kernels.judge[every](tables, numbers, form)
            kernels.amend[each](tables, numbers, form, num_warps=WARPS)
        if watch is not None and watched:
            watch(self._step_sums(tables, options))

    def _tables(self, options: StepOptions, scaling: Scaling) -> Any:
        make = lambda *shape, dtype=torch.float32: torch.zeros(
            shape, dtype=dtype, device=self.device
        )
        count = len(self.params)
        lr = options.lr if isinstance(options.lr, Tensor) else None
        return _kernels().Tables(
            *self.addresses.unbind(),
            *self.columns.unbind(),
            tiles=self.tiles,
            corrections=make(count, 2),
            noise=make(count, dtype=torch.int64),
            guesses=make(count, dtype=torch.int32),
            decisions=make(count, dtype=torch.int32),
            coefs=make(count),
            amended=make(count, dtype=torch.int32),
            sums=make(max(self.units, 1), 5),
            lr=lr if lr is None else lr.to(self.device),
            grad_scale=scaling.grad_scale,
            found_inf=scaling.found_inf,
        )

    def _step_sums(self, tables: Any, options: StepOptions) -> StepSums:
        judged = [i for i, rows in enumerate(self.rows) if rows is not None]
        params = [self.params[i] for i in judged]
        rows = [rows for rows in self.rows if rows is not None]
        return step_sums(params, rows, tables.sums, tables.decisions[judged], options)


def _tiles(weight: int, units: int, unit_size: int) -> list[tuple[int, int, int]]:
    """The tiles of a weight: its index, the tile's first unit, the class of the unit size."""
    size_class = sum(unit_size > width for width in WIDTHS)
    rows = TILE // WIDTHS[size_class] if size_class < len(WIDTHS) else 1
    return [(weight, first, size_class) for first in range(0, units, rows)]


def _kernels() -> Any:
    """The kernels; they import Triton, which takes time."""
    return import_module("tangential.backends.triton.kernels")


def _form(
    options: StepOptions, dtypes: tuple[torch.dtype, ...], scaling: Scaling, *, watched: bool
) -> Any:
    import triton.language as tl

    kernels = _kernels()
    names = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    weight, moment = dtypes
    return kernels.Form(
        adam=options.rule == "adam",
        nesterov=options.nesterov,
        maximize=options.maximize,
        projection=kernels.PROJECTIONS.index(options.units.projection),
        rounding=kernels.ROUNDINGS.index(options.low_precision) if weight in LOST else 0,
        watched=watched,
        lr_on_device=isinstance(options.lr, Tensor),
        scaled=scaling.found_inf is not None,
        weight=names[weight],
        moment=names[moment],
        lost=LOST.get(weight, 0),
    )


def _numbers(options: StepOptions) -> Any:
    adam = options.rule == "adam"
    beta1, beta2 = options.betas if adam else (options.momentum, 0.0)
    logs = [math.log(beta) if beta else -math.inf for beta in (beta1, beta2)]
    return _kernels().Numbers(
        0.0 if isinstance(options.lr, Tensor) else options.lr,
        beta1,
        1 - beta1 if adam else 1 - options.dampening,
        beta2,
        1 - beta2,
        *logs,
        options.eps,
        options.decay,
        options.wd_ratio,
        options.delta,
    )
