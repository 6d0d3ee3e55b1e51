"""A step of all weights of a group in one call of the kernel, by their addresses in memory."""

from typing import Any

import torch
from torch import Tensor

from tangential.backends.batch import Scaling, State, StepOptions, WeightState
from tangential.backends.native import compiled
from tangential.backends.native.layouts import fields, layout_of
from tangential.backends.sharded import is_summed_elsewhere, shards_of
from tangential.backends.sums import StepSums, Watch, step_sums
from tangential.units import Units


class StepPlan:
    """The weights of a group that the kernel takes, remembered from one step to the next.

    It holds no optimizer state between steps: the kernel looks states up at every step.

    Args:
        weights: The weights of the group that have a gradient, with complete states.
        options: The group's options.
        params: All weights of the group.
        first: The index of the group's first weight in the optimizer.
    """

    def __init__(
        self, weights: list[WeightState], options: StepOptions, params: list[Tensor], first: int
    ) -> None:
        self.geometry, self.first = _geometry(options), first
        self.known: tuple[Any, ...] = None, 1.0, None  # options of the last step, and the kernel's
        layouts = [layout_of(weight, options) for weight in weights]
        pairs = list(zip(weights, layouts, strict=True))
        kernel_weights = [weight for weight, layout in pairs if layout is not None]
        self.params = [weight.param for weight in kernel_weights]
        self.rows = [weight.rows for weight in kernel_weights]
        self.other_weights = [x._replace(state={}) for x, layout in pairs if layout is None]
        self.other_params = [weight.param for weight in self.other_weights]
        self.other_layouts = self._other_layouts()
        self.shards = [(i, p) for i, p in enumerate(params, first) if shards_of(p)]
        kernel, states = compiled.kernel, [weight.state for weight in kernel_weights]
        self.plan = kernel.Plan([layout for layout in layouts if layout is not None])
        self.tensors = kernel.Tensors(self.params, states, fields(options), compiled.EXCHANGE)

    def locate(
        self, options: StepOptions, params: list[Tensor], states: dict[Tensor, State], first: int
    ) -> bool:
        """Find weights, gradients and states; False if an address or a layout has changed."""
        return (
            self.first == first
            and (options is self.known[0] or self.geometry == _geometry(options))
            and self.tensors.locate(params, states, self.other_params)
            and self.other_layouts == self._other_layouts()
        )

    def others(self, states: dict[Tensor, State]) -> list[WeightState]:
        """The weights that the kernel does not take, and shards without a gradient, in order."""
        return others(self.other_weights, self.shards, self.geometry[0], states)

    @staticmethod
    def is_wanted(options: StepOptions) -> bool:
        """Whether a step with these options should use it."""
        return compiled.wanted(options)

    def step(self, options: StepOptions, scaling: Scaling, watch: Watch | None) -> None:
        """Advance what `locate` has found by one step, in place."""
        unscale = scaling.unscale
        # before the step, while the memory that `locate` has read is still in the cache
        torch.autograd.graph.increment_version(self.params)
        if unscale != 1:
            grads = [param.grad for param in self.params]
            torch.autograd.graph.increment_version([g for g in grads if g is not None])
        args = self.tensors, self._kernel_options(options, unscale), torch.get_num_threads()
        if watch is None or options.caution or not self.plan.rows:
            self.plan.step(*args)
            return
        sums = torch.zeros(self.plan.rows, 5, dtype=torch.float64, device="cpu")
        decisions = torch.zeros(len(self.params), dtype=torch.int32, device="cpu")
        self.plan.step(*args, sums, decisions)
        watch(self._step_sums(sums, decisions, options))

    def _kernel_options(self, options: StepOptions, unscale: float) -> Any:
        """The kernel's options: those of the last step, if `options` is the same object."""
        known, known_unscale, result = self.known
        is_fixed = not isinstance(options.lr, Tensor)  # a tensor may change in place
        if not (is_fixed and known is options and known_unscale == unscale):
            result = _kernel_options(options, unscale)
            self.known = options, unscale, result
        return result

    def _step_sums(self, sums: Tensor, decisions: Tensor, options: StepOptions) -> StepSums:
        judged = [i for i, rows in enumerate(self.rows) if rows is not None]
        params = [self.params[i] for i in judged]
        rows = [rows for rows in self.rows if rows is not None]
        return step_sums(params, rows, sums, decisions[judged], options)

    def release(self) -> None:
        """Drop the references to gradients and states that `locate` has found."""
        self.tensors.release()

    @property
    def bytes(self) -> int:
        """Memory that is held from step to step."""
        return self.plan.bytes + self.tensors.bytes

    def _other_layouts(self) -> list[Any]:
        """What can exclude the other weights from the kernel, besides their states."""
        layouts: list[Any] = []
        for p in self.other_params:
            g = p.grad
            if g is None or g.layout != torch.strided:
                return []
            layouts += (p.shape, p.stride(), p.dtype, p.device, type(g))
            layouts += (g.shape, g.stride(), g.dtype, g.device, g.is_neg(), g.is_conj())
        return layouts


def others(
    weights: list[WeightState],
    shards: list[tuple[int, Tensor]],
    units: Units,
    states: dict[Tensor, State],
) -> list[WeightState]:
    """The weights that a kernel does not take, and shards without a gradient, in order.

    Args:
        weights: Those with a gradient that the kernel does not take.
        shards: The positions and weights of the group that are sharded.
        units: Their units.
        states: The optimizer's states.
    """
    if not (weights or shards):
        return []
    left = [x._replace(state=states.get(x.param, {})) for x in weights]
    absent = [
        WeightState.of(param, position, units, states)
        for position, param in shards
        if param.grad is None and is_summed_elsewhere(param)
    ]
    return sorted(left + absent, key=lambda weight: weight.position)


def _geometry(options: StepOptions) -> tuple[Any, ...]:
    """The options that decide which weights the kernel takes, and their layouts."""
    return options.units, options.low_precision, options.wide_moments


def _kernel_options(options: StepOptions, unscale: float) -> Any:
    kernel = compiled.kernel
    result = kernel.Options()
    result.rule = kernel.Rule[options.rule]
    if options.rule == "adam":
        result.beta1, result.beta2 = options.betas
        result.take1 = 1 - result.beta1
    else:
        result.beta1, result.take1 = options.momentum, 1 - options.dampening
    result.lr, result.unscale = float(options.lr), unscale
    result.eps, result.decay, result.delta = options.eps, options.decay, options.delta
    result.wd_ratio, result.nesterov = options.wd_ratio, options.nesterov
    result.maximize, result.caution = options.maximize, options.caution
    result.project_buffer = options.project_buffer
    result.projection = kernel.Projection[options.units.projection]
    result.rounding = kernel.Rounding[options.low_precision or "nearest"]
    return result
