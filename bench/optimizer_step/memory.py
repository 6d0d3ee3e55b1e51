"""Extra memory of one optimizer step, measured in a fresh process per optimizer."""

import ctypes
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import NamedTuple

import torch

from tangential.optim import Projected
from tangential_lab.errors import children_ignore_interrupts

from .peers import PEERS, installed_peers
from .workloads import Shape, gradient, weights

CLEAR_REFS = Path("/proc/self/clear_refs")
M_MMAP_THRESHOLD = -3  # of malloc.h


class Memory(NamedTuple):
    """Extra bytes, as shares of the bytes of the weights."""

    step: float  # the peak within a step, freed at its end
    kept: float  # what the kernel keeps from one step to the next


def extra_memory(sizes: list[Shape], threads: int) -> dict[str, Memory]:
    """Extra memory of every peer with the gate open; {} on a machine without /proc.

    Raises:
        ChildProcessError: a measuring process died, most likely because memory ran out.
    """
    if not CLEAR_REFS.exists():
        return {}
    context = get_context("forkserver")
    # Imported once for all processes. Not our kernel: after a fork it works in one thread.
    context.set_forkserver_preload(["torch._dynamo"])
    with children_ignore_interrupts():
        ensure_running()
    memory = {}
    for name in installed_peers():
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_measure, args=(name, sizes, threads, sender), daemon=True)
        child.start()
        sender.close()  # else we would wait for ever for a child that died
        try:
            memory[name] = receiver.recv()
        except EOFError:
            raise ChildProcessError(
                f"the process that measures the memory of {name} died: choose smaller --shapes"
            ) from None
        child.join()
    return memory


def _measure(name: str, sizes: list[Shape], threads: int, sender: Connection) -> None:
    malloc = ctypes.CDLL(None)
    malloc.mallopt(M_MMAP_THRESHOLD, 1 << 16)  # freed memory goes back and is not counted
    torch.set_num_threads(threads)
    params = weights(sizes)
    for p in params:
        p.grad = gradient(p.detach(), "open")
    optimizer = PEERS[name].build(params)
    for _ in range(2):
        optimizer.step()
    malloc.malloc_trim(0)
    CLEAR_REFS.write_text("5")  # resets the peak
    before = _status_bytes("VmRSS")
    for _ in range(3):
        optimizer.step()
    peak = _status_bytes("VmHWM") - before
    kept = optimizer._stepper.bytes if isinstance(optimizer, Projected) else 0
    total = sum(p.nbytes for p in params)
    with suppress(BrokenPipeError):  # Ctrl-C ended the benchmark
        sender.send(Memory(peak / total, kept / total))


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
