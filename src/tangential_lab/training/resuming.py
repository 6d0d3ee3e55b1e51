"""The state of model, optimizer and generators, whole, whatever it is spread over."""

import json
import random
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from tangential_lab.training.checkpoint import State
from tangential_lab.training.distributed import values_of_all_processes

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def state_of(accelerator: Accelerator, model: nn.Module, optimizer: Any, *, sharded: bool) -> State:
    """The state on the first process; every process takes part."""
    inner = accelerator.unwrap_model(model)
    if sharded:
        weights, moments = get_state_dict(model, optimizer.optimizer, options=WHOLE)
    else:
        weights, moments = inner.state_dict(), optimizer.optimizer.state_dict()
    kept = inner.state_dict().keys()  # not those that the model makes anew
    buffers = {name: x for name, x in inner.named_buffers() if name in kept}
    own = {"rng": generators(), "buffers": buffers}
    return {
        "model": weights,
        "optimizer": moments,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
        "processes": values_of_all_processes(own),
    }


def take_state(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, state: State, *, sharded: bool
) -> None:
    """Go on from a state that as many processes have saved.

    Raises:
        ValueError: another number of processes has saved it.
    """
    saved, here = len(state["processes"]), accelerator.num_processes
    if saved != here:
        raise ValueError(f"the checkpoint is of {saved} processes, here are {here}: start as many")
    inner, own = accelerator.unwrap_model(model), state["processes"][accelerator.process_index]
    if sharded:
        set_state_dict(
            model,
            optimizer.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=WHOLE,
        )
        inner.load_state_dict(own["buffers"], strict=False)  # a memory is each process's own
    else:
        inner.load_state_dict(state["model"] | own["buffers"])
        optimizer.optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler:
        accelerator.scaler.load_state_dict(state["scaler"])
    set_generators(own["rng"])


def generators() -> State:
    """The states of the global generators of torch, NumPy and `random`, without any code."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "cpu": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": json.dumps(np.random.get_state(legacy=False), default=np.ndarray.tolist),
        "python": random.getstate(),
    }


def set_generators(state: State) -> None:
    """Go on drawing from there."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(json.loads(state["numpy"]))
    random.setstate(state["python"])
