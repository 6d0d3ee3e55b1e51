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
        self.columns = table([units, unit_sizes, sizes, firsts, seeds], device)
        self.tiles = tiles_of(units, unit_sizes, device)
        self.known: list[list[Any]] = []  # places whose addresses are on the device
        self.addresses = table([], device)
        self.moved: list[int] | None = None  # addresses of gradients for a captured step

    @property
    def tables(self) -> list[Tensor]:
        """What the kernels read at every step."""
        return [self.addresses, self.columns, self.tiles]

    def locate(
        self, options: StepOptions, states: dict[Tensor, State], *, is_captured: bool
    ) -> bool:
        """Find all addresses; False if the kernels cannot step a weight any more.

        A captured step needs the addresses that the last step had, except those of gradients.
        """
        names, self.moved = fields(options), None
        found = [
            [_place(x) for x in (p, p.grad, *map(states.get(p, {}).get, names))]
            for p in self.params
        ]
        if found == self.known:
            return True
        if is_captured:
            self.moved = [grad[0] for _, grad, *_ in found if grad]
            return _without_moves(found) == _without_moves(self.known)
        if not self._takes_all(options, states):
            return False
        self.known = found
        columns = [[x[0] if x else 0 for x in column] for column in zip(*found, strict=True)]
        self.addresses = table(columns, self.device)
        return True

    def _takes_all(self, options: StepOptions, states: dict[Tensor, State]) -> bool:
        for param, rows in zip(self.params, self.rows, strict=True):
            weight = WeightState(param, states.get(param, {}), rows, 0)
            if not (weight.has_grad and takes(weight, options)):
                return False
            step = weight.state.get("step")
            if step is not None and (step.device, step.dtype) != (self.device, torch.float32):
                return False
        return True

    def step(self, options: StepOptions, scaling: Scaling, watch: Watch | None) -> None:
        """The four launches."""
        with torch.cuda.device_of(self.params[0]):  # Triton launches on the current device
            self._launch(options, scaling, watch)

    def _launch(self, options: StepOptions, scaling: Scaling, watch: Watch | None) -> None:
        kernels = import_kernels()
        watched = watch is not None and self.units > 0
        form = _form(options, self.dtypes, scaling, watched=watched)
        tables, numbers = self._tables(options, scaling, is_watched=watched), _numbers(options)
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

    def _tables(self, options: StepOptions, scaling: Scaling, *, is_watched: bool) -> Any:
        addresses = [*self.addresses.unbind()]
        if self.moved is not None:
            addresses[1] = _written_by_kernels(self.moved, self.device)
        lr = options.lr if isinstance(options.lr, Tensor) else None
        return import_kernels().Tables(
            *addresses,
            *self.columns.unbind(),
            tiles=self.tiles,
            **self._workspace(is_zero=is_watched),
            lr=lr if lr is None else lr.to(self.device),
            grad_scale=scaling.grad_scale,
            found_inf=scaling.found_inf,
        )

    def _workspace(self, *, is_zero: bool) -> dict[str, Tensor]:
        """What the kernels of a step leave for each other, in one array: a launch at most.

        A watcher also reads what a step that GradScaler skips does not write.
        """
        count = len(self.params)
        integers = dict.fromkeys(("noise", "guesses", "decisions", "amended"), count)
        sizes = {"corrections": 2 * count, "coefs": count, "sums": 5 * self.units, **integers}
        aligned = [math.ceil(size / 4) * 4 for size in sizes.values()]  # as in `_table`
        make = torch.zeros if is_zero else torch.empty
        parts = make(sum(aligned), dtype=torch.float32, device=self.device).split(aligned)
        return {
            name: part.view(torch.int32) if name in integers else part
            for name, part in zip(sizes, parts, strict=True)
        }

    def _step_sums(self, tables: Any, options: StepOptions) -> StepSums:
        judged = [i for i, rows in enumerate(self.rows) if rows is not None]
        params = [self.params[i] for i in judged]
        rows = [rows for rows in self.rows if rows is not None]
        sums = tables.sums[: 5 * self.units].view(-1, 5)
        return step_sums(params, rows, sums, tables.decisions[judged], options)


def _place(x: Tensor | None) -> Any:
    return None if x is None else (x.data_ptr(), x.dtype, x.stride())


def _without_moves(places: list[list[Any]]) -> list[Any]:
    """The same places, but the gradients may have any address."""
    return [[param, grad and grad[1:], *state] for param, grad, *state in places]


def _written_by_kernels(values: list[int], device: torch.device) -> Tensor:
    """Integers on the device, which a captured graph writes at every replay.

    They are arguments of kernels, so it reads no memory that could be freed or changed meanwhile.
    """
    result = torch.zeros(len(values), dtype=torch.int64, device=device)
    torch._foreach_add_(list(result.unbind()), values)
    return result


def table(rows: list[list[int]], device: torch.device) -> Tensor:
    """Rows of equal lengths, each at a multiple of 16 bytes: else Triton compiles once more."""
    return _array([[*row, *[0] * (len(row) % 2)] for row in rows], device)


def _array(values: list[Any], device: torch.device) -> Tensor:
    """Integers on the device, copied without waiting for it."""
    return torch.tensor(values, dtype=torch.int64, device="cpu").to(device, non_blocking=True)


def tiles_of(units: list[int], unit_sizes: list[int], device: torch.device) -> Tensor:
    """The tiles of all weights [tiles, 3]: weight, first unit, class of the unit size."""
    pairs = enumerate(zip(units, unit_sizes, strict=True))
    return _array([tile for i, pair in pairs for tile in _tiles(i, *pair)], device).int()


def _tiles(weight: int, units: int, unit_size: int) -> list[tuple[int, int, int]]:
    """The tiles of a weight: its index, the tile's first unit, the class of the unit size."""
    size_class = sum(unit_size > width for width in WIDTHS)
    rows = TILE // WIDTHS[size_class] if size_class < len(WIDTHS) else 1
    return [(weight, first, size_class) for first in range(0, units, rows)]


def import_kernels() -> Any:
    """The kernels; they import Triton, which takes time."""
    return import_module("tangential.backends.triton.kernels")


def _form(
    options: StepOptions, dtypes: tuple[torch.dtype, ...], scaling: Scaling, *, watched: bool
) -> Any:
    import triton.language as tl

    kernels = import_kernels()
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
    return import_kernels().Numbers(
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
