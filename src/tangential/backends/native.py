"""All weights of a group in one call of the compiled kernel, by their addresses in memory.

The kernel is written in C++ (`native/`), knows neither Python nor torch, and takes weights on the
CPU whose units are contiguous blocks. Its twin of `maths.gate` is held equal to it by a test.
"""

import shutil
import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential import maths
from tangential.backends.checks import freed, has_own_dispatch
from tangential.backends.rows import Rows, Units, real
from tangential.backends.table import Table
from tangential.backends.watched import StepSums, Watch

kernel: Any = None
missing = ""
try:
    kernel = import_module("tangential._native")
except ImportError as error:
    missing = str(error)

# tells where a tensor lies without a call through Python; torch has it from 2.10 on
EXCHANGE = getattr(Tensor, "__dlpack_c_exchange_api__", None)

State = dict[str, Tensor]
Group = dict[str, Any]

DTYPES = ("float32", "float64", "bfloat16", "float16")  # of real views
BUFFERS = {"adam": ("exp_avg", "exp_avg_sq", "step"), "sgd": ("momentum_buffer", "step")}
EXTRA = {None: (), "kahan": ("compensation",), "stochastic": ("step",)}
# what the kernel takes after weight and gradient; "" is none
FIELDS = {
    "adam": ("exp_avg", "exp_avg_sq", "compensation", "step"),
    "sgd": ("momentum_buffer", "", "compensation", "step"),
}
ROW, WEIGHT = 1, 2  # verdicts
TINY = torch.finfo(torch.float32).tiny
GEOMETRY = ("row_axis", "row_groups", "projection", "low_precision", "state_dtype")


def reason() -> str:
    """Why the kernel is not there, and what would help; "" where it is."""
    if kernel is not None:
        return ""
    lacks = [] if shutil.which("c++") or shutil.which("clang++") else ["a C++ compiler"]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        lacks.append("Python's headers (Debian: python3-dev)")
    help_ = f"install {' and '.join(lacks)}, then reinstall" if lacks else "reinstall"
    return f"the compiled kernel is missing ({missing}): {help_} tangential to build it"


def wanted(group: Group) -> bool:
    """Whether the kernel should take what it can of a group."""
    if kernel is None or torch.compiler.is_compiling():
        return False
    # the kernel fills up the end of a row with zeros, which would become 0 / 0
    if group["eps"] < TINY and "betas" in group and group["betas"][1] == 0:
        return False
    return group["fused"] is True or (group["fused"] is None and group["foreach"] is None)


class Fused:
    """The weights of a group that the kernel takes, remembered from one step to the next.

    Args:
        rule: "adam" or "sgd".
        params: Weights of the group that have a gradient.
        states: Their states.
        rows: Their rows, as `rows_of` finds them.
        places: Their places in the optimizer, which tell stochastic rounding one from another.
        group: The group's options.
        first: The place of the group's first weight.
    """

    def __init__(
        self,
        rule: str,
        params: list[Tensor],
        states: list[State],
        rows: list[Rows | None],
        places: list[int],
        group: Group,
        first: int,
    ) -> None:
        self.rule, self.geometry = rule, [group[name] for name in GEOMETRY]
        self.first = first
        names = BUFFERS[rule] + EXTRA[group["low_precision"]]
        each = list(zip(params, states, rows, places, strict=True))
        layouts = [_layout(*one, names, group) for one in each]
        taken = [i for i, layout in enumerate(layouts) if layout is not None]
        left = [i for i, layout in enumerate(layouts) if layout is None]
        self.weights, self.rows = [params[i] for i in taken], [rows[i] for i in taken]
        self.left, self.left_rows = [params[i] for i in left], [rows[i] for i in left]
        self.left_places = [places[i] for i in left]
        self.left_facts = self._facts()
        self.plan = kernel.Plan([layout for layout in layouts if layout is not None])
        fields = tuple(name if name in names else "" for name in FIELDS[rule])
        self.tensors = kernel.Tensors(self.weights, [states[i] for i in taken], fields, EXCHANGE)

    def locate(self, group: Group, states: dict[Tensor, State], first: int) -> bool:
        """Find weights, gradients and states; False if they no longer are or lie as they did."""
        return (
            self.first == first
            and self.geometry == [group[name] for name in GEOMETRY]
            and self.tensors.locate(group["params"], states, self.left)
            and self.left_facts == self._facts()
        )

    def step(self, group: Group, unscale: float, watch: Watch | None) -> None:
        """Advance what `locate` has found by one step, in place."""
        # before the step, while `locate` has left what they touch in cache
        torch.autograd.graph.increment_version(self.weights)
        if unscale != 1:
            grads = [weight.grad for weight in self.weights]
            torch.autograd.graph.increment_version([g for g in grads if g is not None])
        args = self.tensors, self._options(group, unscale), torch.get_num_threads()
        if watch is None or group["caution"] or not self.plan.rows:
            self.plan.step(*args)
            return
        sums = torch.zeros(self.plan.rows, 5, dtype=torch.float64, device="cpu")
        verdicts = torch.zeros(len(self.weights), dtype=torch.int32, device="cpu")
        self.plan.step(*args, sums, verdicts)
        watch(self._seen(sums, verdicts, group))

    def _seen(self, sums: Tensor, verdicts: Tensor, group: Group) -> StepSums:
        judged = [i for i, rows in enumerate(self.rows) if rows is not None]
        table = Table([rows for rows in self.rows if rows is not None], sums)
        verdict = table.of_weights(verdicts[judged])
        gate = maths.Gate(verdict == ROW, verdict == WEIGHT)
        ww, gg, gw, uw, uu = sums.unbind(1)
        params = [self.weights[i] for i in judged]
        return StepSums(params, table, maths.Moments(ww, gg, gw, uw), uu, gate, group)

    def release(self) -> None:
        """Let go of the gradients and states that `locate` has found."""
        self.tensors.release()

    @property
    def bytes(self) -> int:
        """Memory that is held from step to step."""
        return self.plan.bytes + self.tensors.bytes

    def _options(self, group: Group, unscale: float) -> Any:
        options = kernel.Options()
        options.rule = kernel.Rule[self.rule]
        if self.rule == "adam":
            options.beta1, options.beta2 = group["betas"]
            options.take1 = 1 - options.beta1
        else:
            options.beta1, options.take1 = group["momentum"], 1 - group["dampening"]
            options.project_buffer = group["project_buffer"]
        for name in ("eps", "decay", "wd_ratio", "delta", "nesterov", "maximize", "caution"):
            setattr(options, name, group[name])
        options.lr, options.unscale = float(group["lr"]), unscale
        options.projection = kernel.Projection[group["projection"]]
        options.rounding = kernel.Rounding[group["low_precision"] or "nearest"]
        return options

    def _facts(self) -> list[Any]:
        """What keeps a weight from the kernel may change; the states of such weights do not."""
        facts: list[Any] = []
        for p in self.left:
            g = p.grad
            if g is None or g.layout != torch.strided:
                return []
            facts += (p.shape, p.stride(), p.dtype, p.device, type(g))
            facts += (g.shape, g.stride(), g.dtype, g.device, g.is_neg(), g.is_conj())
        return facts


def _layout(
    param: Tensor,
    state: State,
    rows: Rows | None,
    place: int,
    names: tuple[str, ...],
    group: Group,
) -> tuple[Any, ...] | None:
    """What the kernel must know of a weight, or None where it cannot take it."""
    grad = param.grad
    assert grad is not None
    buffers = {name: state[name] for name in names if name in state}
    step = buffers.pop("step", None)
    if step is not None and not (_plain(step) and _counter(step)):
        return None
    parts = [param, grad, *buffers.values()]
    if has_own_dispatch(param) or not all(map(_plain, parts[1:])):
        return None
    if param.is_conj() or param.is_neg() or not all(x.is_cpu for x in parts):
        return None
    low = buffers.pop("compensation", param)
    moments = {x.dtype for x in buffers.values()}
    if {grad.dtype, low.dtype} != {param.dtype} or len(moments) != 1:
        return None
    if not moments <= {param.dtype, torch.promote_types(param.dtype, torch.float32)}:
        return None  # neither the weight's own dtype nor what a narrower weight's sums have
    dtype, state_dtype = (
        str(kind.to_real() if kind.is_complex else kind).removeprefix("torch.")
        for kind in (param.dtype, *moments)
    )
    if dtype not in DTYPES:
        return None
    if not _dense(param, parts) or not _blocks(param, rows, group["row_axis"]):
        return None
    units, fan = (rows.units, rows.fan) if rows else (0, 0)
    kinds = kernel.Dtype[dtype], kernel.Dtype[state_dtype]
    return (*kinds, units, fan, real(param).numel(), place)


def _plain(x: Tensor) -> bool:
    """Whether x's values lie in memory as its strides say."""
    return type(x) in (Tensor, Parameter) and not x.is_conj() and not x.is_neg()


def _counter(step: Tensor) -> bool:
    return step.is_cpu and step.dtype == torch.float32 and step.numel() == 1


class Move(NamedTuple):
    """A weight before a step and after it, its gradient, and a in after = a before + e."""

    before: Tensor
    after: Tensor
    grad: Tensor
    rows: Rows
    units: Units
    keep: float


def takes(move: Move) -> bool:
    """Whether `products` can be had of a move."""
    w, parts = move.before, [move.before, move.after, move.grad]
    real_and_wide = w.dtype in (torch.float32, torch.float64)
    here = all(_plain(x) and x.is_cpu and x.dtype == w.dtype and not freed(x) for x in parts)
    return bool(
        kernel
        and real_and_wide
        and here
        and _dense(w, parts)
        and _blocks(w, move.rows, move.units.row_axis)
    )


def products(moves: list[Move]) -> list[Tensor]:
    """Per unit ww, gg, gw, ew and ee [5, units] of every move, which `takes` must have taken."""
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


def _dense(weight: Tensor, parts: list[Tensor]) -> bool:
    """Whether arrays of the weight's shape lie in the weight's order, without holes."""
    shape, strides = weight.shape, weight.stride()
    axes = sorted((i for i, n in enumerate(shape) if n > 1), key=strides.__getitem__)
    elements = 1
    for i in axes:
        if strides[i] != elements:
            return False
        elements *= shape[i]
    return all(x.shape == shape and all(x.stride(i) == strides[i] for i in axes) for x in parts)


def _blocks(weight: Tensor, rows: Rows | None, axis: int) -> bool:
    """Whether the units of a dense weight are contiguous blocks."""
    if rows is None or rows.units == 1:
        return True
    return weight.stride(axis) * weight.shape[axis] == weight.numel()
