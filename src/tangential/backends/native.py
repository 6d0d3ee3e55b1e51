"""All weights of a group in one call of the compiled kernel, by their addresses in memory.

The kernel is written in C++ (`native/`), knows neither Python nor torch, and takes weights on the
CPU whose units are contiguous blocks. Its twin of `maths.gate` is held equal to it by a test.
"""

import shutil
import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tangential.backends.rows import Rows, real

kernel: Any = None
missing = ""
try:
    kernel = import_module("tangential._native")
except ImportError as error:
    missing = str(error)

State = dict[str, Tensor]
Group = dict[str, Any]

DTYPES = ("float32", "float64", "bfloat16", "float16")  # of real views
BUFFERS = {"adam": ("exp_avg", "exp_avg_sq", "step"), "sgd": ("momentum_buffer",)}
EXTRA = {None: (), "kahan": ("compensation",), "stochastic": ("step",)}
# what the kernel takes after weight and gradient; "" is none
FIELDS = {
    "adam": ("exp_avg", "exp_avg_sq", "compensation", "step"),
    "sgd": ("momentum_buffer", "", "compensation", "step"),
}
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
    """

    def __init__(
        self,
        rule: str,
        params: list[Tensor],
        states: list[State],
        rows: list[Rows | None],
        places: list[int],
        group: Group,
    ) -> None:
        self.rule, self.rows, self.places = rule, rows, places
        self.names = BUFFERS[rule] + EXTRA[group["low_precision"]]
        self.facts = self._facts(params, states, group)
        each = zip(params, states, rows, places, strict=True)
        layouts = [self._layout(*one, group) for one in each]
        self.left = [i for i, layout in enumerate(layouts) if layout is None]
        self.taken = [i for i, layout in enumerate(layouts) if layout is not None]
        self.plan = kernel.Plan([layout for layout in layouts if layout is not None])
        self.weights = [params[i] for i in self.taken]
        # held, so that no other buffer can have the id of one that the facts name
        self.held = [[states[i].get(name) for name in FIELDS[rule]] for i in self.taken]
        self.addresses: list[int] = []
        for weight, held in zip(self.weights, self.held, strict=True):
            self.addresses += (weight.data_ptr(), 0)  # its gradient's follows at every step
            self.addresses += (0 if x is None else x.data_ptr() for x in held)

    def fits(self, params: list[Tensor], states: list[State], group: Group) -> bool:
        """Whether weights, gradients and states still are and lie as they did."""
        return len(params) == len(self.rows) and self.facts == self._facts(params, states, group)

    def step(self, group: Group, unscale: float) -> None:
        """Advance the weights that the kernel takes, and their states, by one step, in place."""
        grads = [weight.grad for weight in self.weights]
        self.addresses[1::6] = [g.data_ptr() for g in grads if g is not None]
        options = self._options(group, unscale)
        self.plan.step(self.addresses, options, torch.get_num_threads())
        torch.autograd.graph.increment_version(self.weights)
        if unscale != 1:
            torch.autograd.graph.increment_version([g for g in grads if g is not None])

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

    def _facts(self, params: list[Tensor], states: list[State], group: Group) -> list[Any]:
        """All that a plan depends on: what it knows of weights, gradients and states.

        Few, for asking costs more than a small weight's step: whoever gives a weight another
        dtype, device or shape gives it other memory, or gradients of another dtype or shape.
        """
        facts: list[Any] = [group[name] for name in GEOMETRY]
        try:
            for p, s in zip(params, states, strict=True):
                g = p.grad
                if g is None:
                    return []
                facts += (p.data_ptr(), p.stride(), g.dtype, g.shape, g.stride(), g.is_neg())
                for name in self.names:
                    buffer = s.get(name)
                    facts += (id(buffer), None if buffer is None else buffer.data_ptr())
                if p.is_complex():
                    facts.append(g.is_conj())
        except RuntimeError:  # a sparse gradient has no strides
            return []
        return facts

    def _layout(
        self, param: Tensor, state: State, rows: Rows | None, place: int, group: Group
    ) -> tuple[Any, ...] | None:
        """What the kernel must know of a weight, or None where it cannot take it."""
        grad = param.grad
        assert grad is not None
        buffers = [state[name] for name in self.names if name in state and name != "step"]
        w, g, m, *_ = parts = [param, grad, *buffers]
        if any(map(_has_own_dispatch, parts)):
            return None
        if any(not x.is_cpu or x.is_conj() or x.is_neg() for x in parts) or g.dtype != w.dtype:
            return None
        dtype, state_dtype = (str(real(x).dtype).removeprefix("torch.") for x in (w, m))
        if dtype not in DTYPES or state_dtype not in (dtype, "float32"):
            return None
        step = state.get("step")
        if step is not None and (step.dtype != torch.float32 or not step.is_cpu):
            return None
        if not _dense(w, parts) or not _blocks(w, rows, group):
            return None
        units, fan = (rows.units, rows.fan) if rows else (0, 0)
        kinds = kernel.Dtype[dtype], kernel.Dtype[state_dtype]
        return (*kinds, units, fan, real(w).numel(), place)


def _has_own_dispatch(x: Tensor) -> bool:
    """Whether x is of a kind (DTensor, say) that need not have its values in memory."""
    own = type(x).__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]
    return own is not Tensor.__torch_dispatch__  # pyright: ignore[reportAttributeAccessIssue]


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


def _blocks(weight: Tensor, rows: Rows | None, group: Group) -> bool:
    """Whether the units of a dense weight are contiguous blocks."""
    if rows is None or rows.units == 1:
        return True
    axis = group["row_axis"]
    return weight.stride(axis) * weight.shape[axis] == weight.numel()
