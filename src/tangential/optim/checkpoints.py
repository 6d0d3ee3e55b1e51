"""Converts state_dicts of other optimizers, so that AdamP and SGDP can load them."""

import warnings
from typing import Any

import torch
from torch import Tensor

from tangential.optim import options
from tangential.optim.checks import wrong_count, wrong_kind

StateDict = dict[str, Any]

# options of torch.optim and pytorch_optimizer that have no meaning here, or depend on the machine
FOREIGN = {
    *("amsgrad", "capturable", "decoupled_weight_decay", "differentiable", "foreach", "fused"),
    *("fixed_decay", "step", "weight_decouple"),
}


def adopt(optimizer: Any, state_dict: StateDict) -> StateDict:
    """A copy of `state_dict` with the options, keys and step tensors that `optimizer` expects.

    PyPI's adamp and timm count steps in integers and call SGDP's buffer `momentum`;
    pytorch_optimizer counts the steps of a group. Raises a ValueError if a buffer is missing or
    does not fit its weight, or an option is out of range.
    """
    saved, current = state_dict["param_groups"], optimizer.param_groups
    if [len(g["params"]) for g in saved] != [len(g["params"]) for g in current]:
        return state_dict  # torch.optim raises an error about it
    groups = [_group(*pair) for pair in zip(current, saved, strict=True)]
    weights = {
        index: (weight, pair[0].get("step"))
        for pair in zip(saved, current, strict=True)
        for index, weight in zip(*(group["params"] for group in pair), strict=True)
    }
    states = {
        index: _state(optimizer, index, *weights[index], state) if index in weights else state
        for index, state in state_dict["state"].items()
    }
    return {**state_dict, "state": states, "param_groups": groups}


def _group(current: StateDict, saved: StateDict) -> StateDict:
    if saved.get("amsgrad"):
        warnings.warn("amsgrad has no counterpart here: max_exp_avg_sq is dropped", stacklevel=5)
    if not saved.get("weight_decouple", True) or saved.get("fixed_decay"):
        raise ValueError(
            "the saved weight decay is coupled (weight_decouple is False) or does not depend on lr "
            "(fixed_decay is True), which has no counterpart here: remove both options from the "
            "groups of the state_dict, and set weight_decay there"
        )
    group = {name: value for name, value in current.items() if name in options.ALLOWED}
    group |= {name: value for name, value in saved.items() if name not in FOREIGN}
    options.check_rows(group, current["params"])
    return options.storable(group)


def _state(
    optimizer: Any, index: Any, weight: Tensor, group_step: Any, saved: StateDict
) -> StateDict:
    state = {("momentum_buffer" if k == "momentum" else k): v for k, v in saved.items()}
    state = {k: v for k, v in state.items() if v is not None and k != "max_exp_avg_sq"}
    if not state:
        return state  # torch's SGD without momentum has none
    if optimizer.rule == "adam" and group_step is not None:
        state.setdefault("step", group_step)
    needed = {*optimizer.buffers, *(("step",) if optimizer.rule == "adam" else ())}
    if not needed <= state.keys():
        raise ValueError(
            f"the state of weight {index} has {sorted(state)}, "
            f"but {type(optimizer).__name__} needs {sorted(needed)}"
        )
    for name, x in state.items():
        if name in (*optimizer.buffers, "compensation"):
            problem = wrong_kind(x, weight)
        else:
            problem = wrong_count(x) if name == "step" else None
        if problem:
            raise ValueError(f"{name} of weight {index} {problem}")
    state = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
    if optimizer.rule == "adam":
        step = torch.as_tensor(state["step"], dtype=torch.float32, device="cpu")
        state["step"] = step.detach().clone().reshape(())
    return state
