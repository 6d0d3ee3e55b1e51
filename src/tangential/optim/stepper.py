"""An optimizer's step in three phases: check -> plan -> step. Each visits every weight once."""

from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.backends import (
    Rule,
    State,
    StepOptions,
    Task,
    Watch,
    WeightState,
    choose,
    native,
    rows_of,
    run_together,
    shards_of,
    step,
)
from tangential.optim import flattened
from tangential.optim.checks import check_capture, check_lr, check_weight
from tangential.optim.options import Group, resolved
from tangential.optim.states import complete

States = dict[Tensor, State]


class _GroupStep(NamedTuple):
    """A step of one group: the kernel takes the weights of `plan`, a backend the `others`."""

    number: int  # index of the group
    first: int  # the index of its first weight in the optimizer
    params: list[Tensor]
    options: StepOptions
    plan: native.StepPlan | None
    others: list[WeightState]


class _Remembered(NamedTuple):
    """What is kept from one step of a group to the next while its kernel plan stays valid."""

    plan: native.StepPlan
    shards: list[tuple[int, Tensor]]  # the sharded weights, and their places


class Stepper:
    """Takes an optimizer's steps, and remembers kernel plans from one step to the next.

    Args:
        rule: "adam" or "sgd".
        buffers: The names of the rule's moments.
        owner: The name of the optimizer's class, for messages.
    """

    def __init__(self, rule: Rule, buffers: tuple[str, ...], owner: str) -> None:
        self.rule: Rule = rule
        self.buffers, self.owner = buffers, owner
        self.remembered: dict[int, _Remembered] = {}

    def step(
        self,
        groups: list[Group],
        states: States,
        watch: Watch | None,
        *,
        found_inf: Any = None,
        grad_scale: Any = None,
    ) -> None:
        """Take one step of all groups. If a check raises, nothing has changed.

        Args:
            groups: The optimizer's parameter groups.
            states: The optimizer's states, which are completed in place.
            watch: Called with the sums of every batch that the gate decides about.
            found_inf: Nonzero if GradScaler wants to skip this step.
            grad_scale: The factor by which GradScaler has multiplied the gradients.
        """
        for number in [n for n in self.remembered if n >= len(groups)]:
            del self.remembered[number]  # it would keep a removed group's weights alive
        firsts = [0, *accumulate(len(group["params"]) for group in groups)]
        steps = [self._checked(n, firsts[n], groups, states) for n in range(len(groups))]
        if found_inf is not None and float(found_inf):
            return
        unscale = 1.0 if grad_scale is None else 1 / float(grad_scale)
        planned = [self._planned(group_step, states) for group_step in steps]
        tasks = [_take_step(group_step, unscale, watch) for group_step in planned]
        run_together(task for group_tasks in tasks for task in group_tasks)

    def release(self) -> None:
        """Drop the references to gradients and states of the last step."""
        for remembered in self.remembered.values():
            remembered.plan.release()

    @property
    def bytes(self) -> int:
        """Memory of the kernel plans that is held from step to step."""
        return sum(remembered.plan.bytes for remembered in self.remembered.values())

    # ---- check

    def _checked(self, number: int, first: int, groups: list[Group], states: States) -> _GroupStep:
        """The checked step of a group; weights that the kernel finds unchanged need no check."""
        group, params = groups[number], groups[number]["params"]
        options = resolved(self.rule, group)
        check_lr(options.lr, params)
        known = self.remembered.get(number)
        if known and native.wanted(options) and known.plan.locate(options, params, states, first):
            others = self._others(known, options, states)
            self._check_tensors(others, options)
            return _GroupStep(number, first, params, options, known.plan, others)
        self.remembered.pop(number, None)
        taking_part = [
            (i, p)
            for i, p in enumerate(params, first)
            if p.grad is not None or _is_summed_elsewhere(p)
        ]
        flattened.check_step(groups, group)
        weights = [_weight(p, i, options, states) for i, p in taking_part]
        self._check_tensors(weights, options)
        return _GroupStep(number, first, params, options, None, weights)

    def _check_tensors(self, weights: list[WeightState], options: StepOptions) -> None:
        active = [weight for weight in weights if weight.has_grad]
        if self.rule == "adam" or options.low_precision == "stochastic":
            check_capture([weight.param for weight in active], self.owner)
        names = ("step", "compensation", *self.buffers)
        for weight in active:
            state = {name: weight.state[name] for name in names if name in weight.state}
            check_weight(weight.param, state, self.owner)

    # ---- plan

    def _planned(self, group_step: _GroupStep, states: States) -> _GroupStep:
        """The same step with all states complete, and with a kernel plan if one is wanted."""
        number, first, params, options, plan, others = group_step
        active = [weight for weight in others if weight.has_grad]
        for weight in active:
            complete(weight, options, self.buffers)
            states[weight.param] = weight.state
        if plan is not None or not active or not native.wanted(options):
            return group_step
        plan = native.StepPlan(active, options, first)
        if not plan.locate(options, params, states, first):
            return group_step
        shards = [(i, p) for i, p in enumerate(params, first) if shards_of(p)]
        known = self.remembered[number] = _Remembered(plan, shards)
        return group_step._replace(plan=plan, others=self._others(known, options, states))

    def _others(
        self, known: _Remembered, options: StepOptions, states: States
    ) -> list[WeightState]:
        """The weights that the kernel does not take, and shards without a gradient, in order."""
        left = [weight.with_state_from(states) for weight in known.plan.left]
        absent = [(i, p) for i, p in known.shards if p.grad is None and _is_summed_elsewhere(p)]
        others = left + [_weight(p, i, options, states) for i, p in absent]
        return sorted(others, key=lambda weight: weight.position)


def _weight(param: Tensor, position: int, options: StepOptions, states: States) -> WeightState:
    return WeightState(param, states.get(param, {}), rows_of(param, options.units), position)


def _is_summed_elsewhere(param: Tensor) -> bool:
    """Whether other processes may need the sums of this process's shard."""
    return param.requires_grad and bool(shards_of(param))


# ---- step


def _take_step(group_step: _GroupStep, unscale: float, watch: Watch | None) -> list[Task]:
    """Take a group's step; return the tasks that must run together with those of other groups."""
    options, plan, others = group_step.options, group_step.plan, group_step.others
    if plan is not None:
        plan.step(options, unscale, watch)
    if not others:
        return []
    grads = [weight.param.grad for weight in others if weight.param.grad is not None]
    if unscale != 1 and grads:
        torch._foreach_mul_(grads, unscale)
    return step(choose(options.foreach), others, options, watch)
