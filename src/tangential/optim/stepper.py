"""An optimizer's step in three phases: check -> plan -> step. Each visits every weight once."""

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends import (
    Scaling,
    State,
    StepOptions,
    Watch,
    WeightState,
    choose,
    is_narrow,
    native,
    sharded,
    step,
    triton,
)
from tangential.optim import flattened
from tangential.optim.checks import check_capture, check_lr, check_weight
from tangential.optim.options import Group, Resolved

States = dict[Tensor, State]
Plan = native.StepPlan | triton.TritonPlan


class _GroupStep(NamedTuple):
    """A step of one group: the kernel takes the weights of `plan`, a backend the `others`."""

    number: int  # index of the group
    first: int  # the index of its first weight in the optimizer
    params: list[Tensor]
    options: StepOptions
    plan: Plan | None
    others: list[WeightState]

    @property
    def is_on_device(self) -> bool:
        """Whether the device decides to skip the step, if GradScaler wants that."""
        return isinstance(self.plan, triton.TritonPlan) and not self.others


class Stepper:
    """Takes an optimizer's steps, and keeps every group's kernel plan while it stays valid."""

    def __init__(self) -> None:
        self.plans: dict[int, Plan] = {}
        self.options: defaultdict[int, Resolved] = defaultdict(Resolved)
        self.captured: list[list[Tensor]] = []  # CUDA graphs read them, even if a plan is gone

    def step(self, optimizer: Any) -> None:
        """Take one step of all groups of an AdamP or SGDP. If a check raises, nothing has changed.

        GradScaler sets two attributes: `found_inf` is nonzero if it wants to skip the step, and
        `grad_scale` is the factor by which it has multiplied the gradients.
        """
        groups = optimizer.param_groups
        for number in range(len(groups), len(self.options)):
            del self.options[number]  # it would keep a removed group's weights alive
            self.plans.pop(number, None)
        first, steps = 0, []
        for number, group in enumerate(groups):
            steps.append(self._checked(number, first, optimizer))
            first += len(group["params"])
        scaling = Scaling(
            getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        )
        if not all(group_step.is_on_device for group_step in steps) and scaling.skips:
            return
        planned = [self._planned(group_step, optimizer) for group_step in steps]
        tasks: list[sharded.Task] = []
        for group_step in planned:
            tasks += _take_step(group_step, scaling, optimizer.watch)
        sharded.run_together(tasks)

    def release(self) -> None:
        """Drop the references to gradients and states of the last step."""
        for plan in self.plans.values():
            plan.release()

    @property
    def bytes(self) -> int:
        """Memory of the kernel plans that is held from step to step."""
        return sum(plan.bytes for plan in self.plans.values())

    def _checked(self, number: int, first: int, optimizer: Any) -> _GroupStep:
        """The checked step of a group; weights that the kernel finds unchanged need no check."""
        group: Group = optimizer.param_groups[number]
        params, states = group["params"], optimizer.state
        options = self.options[number].at_step(optimizer.rule, group)
        check_lr(options.lr, params)
        plan = self.plans.get(number)
        if plan and plan.is_wanted(options) and plan.locate(options, params, states, first):
            others = plan.others(states)
        else:
            triton.check_warm_up(params, options)
            self.plans.pop(number, None)
            plan = None
            flattened.check_step(optimizer.param_groups, group)
            others = [
                WeightState.of(param, position, options.units, states)
                for position, param in enumerate(params, first)
                if param.grad is not None or sharded.is_summed_elsewhere(param)
            ]
        if isinstance(plan, triton.TritonPlan):
            check_capture(params, options, type(optimizer).__name__)
            if plan.is_captured:
                self.captured.append(plan.tables)
        if others:
            _check_tensors(others, options, optimizer)
        return _GroupStep(number, first, params, options, plan, others)

    def _planned(self, group_step: _GroupStep, optimizer: Any) -> _GroupStep:
        """The same step with all states complete, and with a kernel plan if one is wanted."""
        number, first, params, options, plan, others = group_step
        if not others:
            return group_step
        states = optimizer.state
        active = [weight for weight in others if weight.has_grad]
        for weight in active:
            _complete(weight, options, optimizer.buffers)
            states[weight.param] = weight.state
        if plan is not None or not active:
            return group_step
        on_device = triton.runs_on(active[0].param.device)
        planner = triton.TritonPlan if on_device else native.StepPlan
        if not planner.is_wanted(options):
            return group_step
        plan = planner(active, options, params, first)
        if not plan.locate(options, params, states, first):
            return group_step
        self.plans[number] = plan
        return group_step._replace(plan=plan, others=plan.others(states))


def _check_tensors(weights: list[WeightState], options: StepOptions, optimizer: Any) -> None:
    active, owner = [weight for weight in weights if weight.has_grad], type(optimizer).__name__
    check_capture([weight.param for weight in active], options, owner)
    names = ("step", "compensation", *optimizer.buffers)
    for weight in active:
        state = {name: weight.state[name] for name in names if name in weight.state}
        check_weight(weight.param, state, owner)


def _complete(weight: WeightState, options: StepOptions, buffers: tuple[str, ...]) -> None:
    """Add missing tensors to the state of a weight, and convert moments of an old dtype."""
    state, param = weight.state, weight.param
    rounding = options.low_precision if is_narrow(param) else None
    if options.rule == "adam" or rounding == "stochastic":
        step = _step_count(state.get("step", 0.0))
        state["step"] = step.to(param.device) if options.capturable else step
    for name in (*buffers, *(("compensation",) if rounding == "kahan" else ())):
        dtype = moment_dtype(param, wide=options.wide_moments and name != "compensation")
        x = state.get(name)
        if x is None:
            state[name] = torch.zeros_like(param, dtype=dtype)
        elif x.dtype != param.dtype and x.dtype != moment_dtype(param, wide=True):
            state[name] = x.to(dtype)  # the model was cast


def moment_dtype(param: Tensor, *, wide: bool) -> torch.dtype:
    """The dtype of the moments: the weight's, or at least float32 if `wide`."""
    return torch.promote_types(param.dtype, torch.float32) if wide else param.dtype


def _step_count(step: Any) -> Tensor:
    """The step count as a CPU tensor, so that reading it does not wait for a device.

    The weights that Triton takes have theirs on the device, and keep it.
    """
    if isinstance(step, Tensor) and step.is_floating_point() and step.dim() == 0:
        return step
    return torch.as_tensor(step, dtype=torch.float32, device="cpu").detach().clone().reshape(())


def _take_step(group_step: _GroupStep, scaling: Scaling, watch: Watch | None) -> list[sharded.Task]:
    """Take a group's step; return the tasks that must run together with those of other groups."""
    options, plan, others = group_step.options, group_step.plan, group_step.others
    if plan is not None:
        plan.step(options, scaling, watch)
    if not others:
        return []
    unscale = scaling.unscale
    grads = [weight.param.grad for weight in others if weight.param.grad is not None]
    if unscale != 1 and grads:
        torch._foreach_mul_(grads, unscale)
    return step(choose(options.foreach), others, options, watch)
