"""What an optimizer does to a weight, computed from its options and its state."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW
from torch.optim.optimizer import Optimizer

from tangential import maths
from tangential.backends import sharded, widen
from tangential.optim import Projected, amendment_of
from tangential.radial import remove

Group = dict[str, Any]

PUBLISHED = {"delta", "wd_ratio"}  # options of the published AdamP and SGDP and their copies


class Settings(NamedTuple):
    """The options that decide how fast the weights of a group rotate at equilibrium."""

    decay: float  # decoupled, per unit of lr; or the decoupled equivalent of coupled decay
    coupled: bool  # decay is added to the gradient
    beta: float  # decay rate of the momentum
    wd_ratio: float  # share of the decay that acts on a projected weight
    projects: bool  # the radial part of updates is removed where the gate fires
    adaptive: bool  # the length of a step is independent of the gradient's length


def settings_of(optimizer: Optimizer, group: Group) -> Settings | None:
    """The settings of a group of AdamP, SGDP, their published versions, AdamW or SGD; else None.

    Those of a projected optimizer are known if its rule is `remove`.

    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> optimizer = SGD([weight], lr=0.1, momentum=0.75, weight_decay=0.5)
    >>> settings_of(optimizer, optimizer.param_groups[0]).decay
    2.0
    """
    if isinstance(optimizer, Projected):
        options = optimizer.resolved(group)
        adaptive = options.rule == "adam"
        return Settings(options.decay, False, options.beta, options.wd_ratio, True, adaptive)
    if amendment := amendment_of(optimizer, group):
        if amendment.rule != remove():
            return None
        _, decay, wd_ratio, beta, _ = amendment.setting
        return Settings(decay, False, beta, wd_ratio, True, not isinstance(optimizer, SGD))
    decay = group.get("weight_decay", 0.0)
    if type(optimizer) is SGD:
        beta = group["momentum"]
        decay *= (1 - group["dampening"]) / (1 - beta)
        return Settings(decay, True, beta, 1.0, False, False)
    decoupled = type(optimizer) is Adam and group.get("decoupled_weight_decay", False)
    if type(optimizer) is AdamW or decoupled:
        return Settings(decay, False, group["betas"][0], 1.0, False, True)
    if group.keys() >= PUBLISHED:
        adaptive = "betas" in group
        beta = group["betas"][0] if adaptive else group["momentum"]
        decay = decay if adaptive else decay / (1 - beta)
        return Settings(decay, False, beta, group["wd_ratio"], True, adaptive)
    return None


def keep_of(optimizer: Optimizer, group: Group) -> float:
    """The factor a in w+ = a w + e for weights that are not projected; 1 if unknown."""
    settings = settings_of(optimizer, group)
    if settings is None or settings.coupled:
        return 1.0
    published = settings.projects and not isinstance(optimizer, Projected)
    return 1.0 if published else 1 - float(group["lr"]) * settings.decay


def gradient_of(param: Tensor) -> Tensor:
    """This process's part of the gradient, dense, and sharded like its weight."""
    grad = sharded.gradient_of(param)
    return (grad if grad.layout == torch.strided else grad.to_dense()).resolve_conj()


def update_of(optimizer: Optimizer, param: Tensor, before: Tensor, group: Group) -> Tensor | None:
    """The e that the last step added to a weight before rounding, from its state; None if unknown.

    Known are torch's SGD, Adam and AdamW; AdamP and SGDP without caution. `before` is the weight
    before the step; for a DTensor, this process's shard.
    """
    ours = isinstance(optimizer, Projected)
    if group.get("caution") or not (ours or type(optimizer) in (SGD, Adam, AdamW)):
        return None
    if amendment_of(optimizer, group):
        return None
    state = {name: sharded.local(value) for name, value in optimizer.state[param].items()}
    lr, g = float(group["lr"]), widen(gradient_of(param)) * (-1 if group["maximize"] else 1)
    if "betas" in group:
        m, v = widen(state["exp_avg"]), widen(state.get("max_exp_avg_sq", state["exp_avg_sq"]))
        rule = {name: group[name] for name in ("betas", "eps")}
        rule["nesterov"] = group.get("nesterov", False)
        corrections = maths.bias_corrections(float(state["step"]), group["betas"])
        return -lr * maths.adam_update(torch, g, m, v, corrections, **rule)
    if not ours and group["weight_decay"]:
        g = g + group["weight_decay"] * widen(before)
    buffer, momentum = state.get("momentum_buffer"), group["momentum"]
    if buffer is None:
        return -lr * g
    return -lr * maths.sgd_update(g, widen(buffer), momentum=momentum, nesterov=group["nesterov"])
