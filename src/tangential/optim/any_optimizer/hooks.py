"""The hooks of `project`: half of a step before the optimizer's own, half of it afterwards."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.optimizer import Optimizer

from tangential import maths
from tangential.backends import (
    Begun,
    WeightState,
    begin,
    finish,
    keep,
    sharded,
)
from tangential.functional import Amendment
from tangential.optim import flattened, options
from tangential.optim.any_optimizer.narrow import StandIns, restore_wide
from tangential.optim.checks import check_lr, check_weight
from tangential.optim.options import Group
from tangential.radial import Rule, Setting

# Names in a parameter group, where the optimizer itself may have `weight_decay` and `eps`.
NAMES = {name: name for name in ("projection", "row_axis", "row_groups", "delta", "wd_ratio")}
NAMES |= {name: f"project_{name}" for name in ("weight_decay", "eps")}

KEY: Any = "tangential.project"  # of the hooks; torch's own keys are numbers that it uses again


class Projector:
    """The hooks of one optimizer, and what they need between the two halves of a step."""

    def __init__(self, rule: Rule, latch: int, fused: bool | None) -> None:
        self.rule, self.latch, self.fused = rule, latch, fused
        self.begun: list[Begun] = []
        self.stand_ins = StandIns()
        self.saved: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Projector, (self.rule, self.latch, self.fused)

    def install(self, optimizer: Any) -> None:
        """Register the hooks; after a step, they run before all others.

        torch drops hooks when an optimizer is copied or pickled; these stay.
        """
        for name, hook in self.hooks().items():
            getattr(optimizer, name)[KEY] = hook
        optimizer._optimizer_step_post_hooks.move_to_end(KEY, last=False)
        optimizer.__getstate__ = partial(_state_with_hooks, optimizer)

    def hooks(self) -> dict[str, Callable[..., Any]]:
        """The hooks, by the attribute of an optimizer that has all hooks of their kind."""
        return {
            "_optimizer_step_pre_hooks": self.before_step,
            "_optimizer_step_post_hooks": self.after_step,
            "_optimizer_load_state_dict_pre_hooks": self.before_load,
            "_optimizer_load_state_dict_post_hooks": self.after_load,
        }

    def amendment(self, optimizer: Optimizer, group: Group) -> Amendment:
        """The options of a group, checked."""
        chosen: Group = {"lr": group.get("lr")}
        chosen |= {name: group[key] for name, key in NAMES.items()}
        _check_options(type(optimizer).__name__, group, chosen, self)
        lr: Any = chosen["lr"]
        ratio, beta = chosen["wd_ratio"], _beta(group)
        decay = float(chosen["weight_decay"])
        setting = Setting(
            lr=lr.reshape(()) if isinstance(lr, Tensor) else float(lr),
            decay=decay / (1 - beta) if isinstance(optimizer, SGD) else decay,
            wd_ratio=maths.matched(beta) if isinstance(ratio, str) else float(ratio),
            beta=beta,
            eps=float(chosen["eps"]),
        )
        units, delta = options.units_of(group), float(chosen["delta"])
        return Amendment(units, delta, setting, self.rule, self.latch)

    def before_step(
        self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Begin the step; if there is a closure, once it has computed the gradients."""
        self._forget(optimizer)  # an earlier step may have ended with an error
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._begin(optimizer)
            return None
        once = partial(self._evaluated, optimizer, closure, [])
        if len(args) > 1:
            return (args[0], once, *args[2:]), kwargs
        return args, {**kwargs, "closure": once}

    def _evaluated(self, optimizer: Any, closure: Callable[[], Any], results: list[Any]) -> Any:
        if results:
            raise RuntimeError(
                f"{type(optimizer).__name__} evaluates its closure several times per step, so it "
                "cannot be projected: the gate needs the one gradient that a step follows"
            )
        results.append(closure())
        self._begin(optimizer)
        return results[0]

    @torch.no_grad()
    def _begin(self, optimizer: Any) -> None:
        """Check the step, and take its first half."""
        groups, owner, steps = optimizer.param_groups, type(optimizer).__name__, []
        for group in groups:
            how = self.amendment(optimizer, group)
            flattened.check_step(groups, group)
            weights = _moving(optimizer, group, how)
            for weight in weights:
                if weight.has_grad:
                    check_weight(weight.param, {}, owner)
            steps.append((group, how, weights))
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and float(found_inf):
            return  # the optimizer will skip this step
        for group, how, weights in steps:
            if self.stand_ins.put_in(group["params"], optimizer.state):
                weights = _moving(optimizer, group, how)
            begin(weights, self.stand_ins.weights, how, self.fused, self.begun)

    @torch.no_grad()
    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Take the second half of the step."""
        sharded.run_together(finish(self.begun))
        self.stand_ins.store()
        for batch in self.begun:
            keep(batch, optimizer.state)
        self._forget(optimizer)

    def before_load(self, optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any] | None:
        """Options that the saved groups lack keep the values that they have now."""
        self.saved, groups = saved, saved["param_groups"]
        if len(groups) != len(optimizer.param_groups):
            return None  # torch raises an error about it
        names = NAMES.values()
        current = [{name: g[name] for name in names} for g in optimizer.param_groups]
        pairs = zip(current, groups, strict=True)
        return {**saved, "param_groups": [options | group for options, group in pairs]}

    def after_load(self, optimizer: Optimizer) -> None:
        """Restore what is saved in more than a weight's 16 bits: torch has rounded it."""
        saved, self.saved = self.saved, {}
        indices = chain.from_iterable(group["params"] for group in saved["param_groups"])
        params = chain.from_iterable(group["params"] for group in optimizer.param_groups)
        for index, param in zip(indices, params, strict=True):
            if index in saved["state"]:
                restore_wide(param, optimizer.state[param], saved["state"][index])

    def _forget(self, optimizer: Optimizer) -> None:
        """Drop everything that belongs to one step."""
        self.stand_ins.take_out(optimizer.state)
        self.begun = []


def _moving(optimizer: Optimizer, group: Group, how: Amendment) -> list[WeightState]:
    """The weights of a group that have a gradient, and shards whose sums others may need."""
    return [
        WeightState.of(param, 0, how.units, optimizer.state)
        for param in group["params"]
        if param.grad is not None or sharded.is_summed_elsewhere(param)
    ]


def projector_of(optimizer: Any) -> Projector | None:
    """The projector of an optimizer; None if `project` was not called."""
    hook = getattr(optimizer, "_optimizer_step_pre_hooks", {}).get(KEY)
    return hook.__self__ if hook else None


def _state_with_hooks(optimizer: Any) -> dict[str, Any]:
    """What is copied or pickled of an optimizer."""
    projector: Any = projector_of(optimizer)
    hooks = {name: OrderedDict({KEY: hook}) for name, hook in projector.hooks().items()}
    kind: Any = type(optimizer)
    state = kind.__getstate__(optimizer)
    return {**state, **hooks, "__getstate__": optimizer.__dict__["__getstate__"]}


def _check_options(owner: str, group: Group, chosen: Group, projector: Projector) -> None:
    decay = group.get("weight_decay") or 0
    if decay != 0:
        raise ValueError(
            f"weight_decay of {owner} must be 0, got {decay}: write "
            f"project({owner}(..., weight_decay=0), weight_decay={decay})"
        )
    options.check(chosen)
    check_lr(chosen["lr"], group["params"])
    if projector.rule.needs_decision and chosen["projection"] == "auto" and not projector.latch:
        raise ValueError(
            'projection is "auto", but the rule `radial` needs units that are projected at every '
            'step or never: use projection="row" or "weight", the groups of '
            "tangential.param_groups(model, audit), or latch=100"
        )


def _beta(group: Group) -> float:
    """The decay rate of an optimizer's momentum; 0 if it has none."""
    betas = group.get("betas")
    return float(betas[0] if betas else group.get("momentum") or 0)
