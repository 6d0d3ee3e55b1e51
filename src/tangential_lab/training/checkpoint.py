"""Saves the state of a trial to disk, and loads it.

A checkpoint is written completely or not at all, and the previous checkpoint is kept, too. Loading
a checkpoint runs no code from the file.
"""

import io
import json
import random
import warnings
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
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

from tangential.files import write_atomically
from tangential_lab.training.distributed import values_of_all_processes

State = dict[str, Any]

CHECKPOINTS = 2  # the newest, and the previous one in case the newest is damaged
DIGEST_BYTES = 32  # of the sha256 digest before the payload
FULL_STATE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save(folder: Path, state: State) -> None:
    """Write the state of step `state["step"]`; delete all older checkpoints but one.

    Raises:
        OSError: the checkpoint cannot be written; the older checkpoints are unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    payload = io.BytesIO()
    torch.save(state, payload)
    content = payload.getbuffer()
    with write_atomically(folder / f"{state['step']:010}.checkpoint", "wb") as file:
        file.write(sha256(content).digest())
        file.write(content)
    for path in _newest_first(folder)[CHECKPOINTS:]:
        path.unlink(missing_ok=True)  # another process may have removed it


def load(folder: Path) -> State | None:
    """The newest state that can be read, or None. Warns about every other checkpoint."""
    for path in _newest_first(folder):
        try:
            content = path.read_bytes()
            digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            if sha256(payload).digest() != digest:
                raise ValueError("its checksum is wrong")
            return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
            warnings.warn(f"checkpoint {path} is not used: {error}", stacklevel=2)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.checkpoint"), reverse=True)


def state_of(accelerator: Accelerator, model: nn.Module, optimizer: Any, *, sharded: bool) -> State:
    """The state of a training; every process must call it, on the first it is complete."""
    inner = accelerator.unwrap_model(model)
    if sharded:
        states = get_state_dict(model, optimizer.optimizer, options=FULL_STATE)
    else:
        states = inner.state_dict(), optimizer.optimizer.state_dict()
    saved = inner.state_dict().keys()  # without buffers that are not persistent
    buffers = {name: x for name, x in inner.named_buffers() if name in saved}
    return {
        "model": states[0],
        "optimizer": states[1],
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
        "processes": values_of_all_processes({"rng": generators(), "buffers": buffers}),
    }


def restore_state(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, state: State, *, sharded: bool
) -> None:
    """Continue from a state that `state_of` returned.

    Raises:
        ValueError: it was saved by a different number of processes.
    """
    saved, started = len(state["processes"]), accelerator.num_processes
    if saved != started:
        raise ValueError(
            f"the checkpoint was saved by {saved} processes, but {started} are running: "
            f"start {saved}"
        )
    inner = accelerator.unwrap_model(model)
    local = state["processes"][accelerator.process_index]
    if sharded:
        set_state_dict(
            model,
            optimizer.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=FULL_STATE,
        )
        inner.load_state_dict(local["buffers"], strict=False)  # memory banks differ by process
    else:
        inner.load_state_dict(state["model"] | local["buffers"])
        optimizer.optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler:
        accelerator.scaler.load_state_dict(state["scaler"])
    set_generators(local["rng"])


def generators() -> State:
    """The states of the global generators of torch, NumPy and `random`, as plain data."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": json.dumps(np.random.get_state(legacy=False), default=np.ndarray.tolist),
        "python": random.getstate(),
    }


def set_generators(state: State) -> None:
    """Restore the states that `generators` returned."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(json.loads(state["numpy"]))
    random.setstate(state["python"])
