"""One optimizer step against its peers: interleaved rounds, medians, extra memory.

The optimizers share weights and gradients, for lr is so small that no step moves them, and have
states of their own: GPT-2 with all peers stays below 14 GB.
"""

import ctypes
import gc
import random
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from tangential_lab.cli.peers import PEERS, present
from tangential_lab.cli.timings import Result
from tangential_lab.cli.workloads import GATES, SHAPES, Shape, gradient
from tangential_lab.errors import children_ignore_interrupts

Say = Callable[[str], None]

CHANCE = 0.08  # that |cos| < .1 / sqrt(n) for two unrelated vectors of many elements n
CLEAR_REFS = Path("/proc/self/clear_refs")
M_MMAP_THRESHOLD = -3  # of malloc.h


def bench(
    shapes: list[str],
    gates: list[str],
    threads: list[int],
    rounds: int,
    say: Say = lambda _: None,
) -> list[Result]:
    """Time every peer that is there in every case.

    Args:
        shapes: Names in SHAPES.
        gates: Names in GATES.
        threads: Numbers of threads.
        rounds: What a median is taken over; slow peers take part in a third, or in five.
        say: Is told what begins.

    Raises:
        ModuleNotFoundError: a shape needs torchvision; nothing was measured then.
        ChildProcessError: the memory does not suffice.
    """
    sizes = {shape: SHAPES[shape]() for shape in shapes}
    before, results = torch.get_num_threads(), []
    try:
        for shape in shapes:
            results += _cases(shape, sizes[shape], gates, threads, rounds, say)
            gc.collect()  # two shapes together might not fit into memory
    finally:
        torch.set_num_threads(before)
    return results


def _cases(
    shape: str, sizes: list[Shape], gates: list[str], threads: list[int], rounds: int, say: Say
) -> list[Result]:
    say(f"{shape}: extra memory")
    memory = _extra_memory(sizes, max(threads))
    stage, results = _Stage(sizes), []
    for gate in gates:
        stage.choose(gate)
        for n in threads:
            say(f"{shape}: gate {gate}, threads {n}")
            seconds = stage.medians(n, rounds)
            copy = seconds.pop("copy")
            slow = len(range(0, rounds, _every(rounds)))
            results.append(
                Result(shape, gate, n, rounds, slow, stage.elements, copy, seconds, memory)
            )
    return results


class _Stage:
    """Weights, the gradients of a gate, and all optimizers upon them."""

    def __init__(self, sizes: list[Shape]) -> None:
        self.params = _weights(sizes)
        self.grads: list[tuple[Tensor, Tensor]] = []
        source = torch.cat([p.detach().flatten() for p in self.params])
        target = torch.empty_like(source)
        self.elements, self.cold = source.numel(), True
        self.steps: dict[str, Callable[[], Any]] = {"copy": lambda: target.copy_(source)}
        for name, peer in present().items():
            self.steps[name] = peer.build(self.params).step

    def choose(self, gate: str) -> None:
        """Make a gate's gradients: for every weight the usual one and that by chance."""
        usual, other = GATES[gate]
        self.grads = []
        for p in self.params:
            p.grad = None
        for p in self.params:
            g = gradient(p.detach(), usual)
            same = other == usual or p.dim() < 2
            self.grads.append((g, g if same else gradient(p.detach(), other)))

    def medians(self, threads: int, rounds: int) -> dict[str, float]:
        """Seconds of every step; untimed rounds come before: two, later one of the fast."""
        torch.set_num_threads(threads)
        times: dict[str, list[float]] = {name: [] for name in self.steps}
        every, chance = _every(rounds), random.Random(0)
        gc.collect()
        gc.disable()
        try:
            for turn in range(-2 if self.cold else -1, rounds):
                for p, (usual, other) in zip(self.params, self.grads, strict=True):
                    p.grad = other if chance.random() < CHANCE else usual
                everyone = self.cold if turn < 0 else turn % every == 0
                names = [name for name in times if everyone or not _slow(name)]
                # in any order, for each finds the caches as the one before it left them
                for name in chance.sample(names, len(names)):
                    start = time.perf_counter()
                    self.steps[name]()
                    if turn >= 0:
                        times[name].append(time.perf_counter() - start)
        finally:
            gc.enable()
        self.cold = False
        return {name: median(values) for name, values in times.items()}


def _slow(name: str) -> bool:
    return name in PEERS and PEERS[name].slow


def _every(rounds: int) -> int:
    """Which rounds the slow peers take part in: every third, but in five where there are."""
    return max(1, min(3, rounds // 5))


def _weights(sizes: list[Shape]) -> list[Parameter]:
    torch.manual_seed(0)
    return [Parameter(0.02 * torch.randn(size)) for size in sizes]


def _extra_memory(sizes: list[Shape], threads: int) -> dict[str, tuple[float, float]]:
    """Extra memory of every peer, each in a fresh process, the gate open; {} without /proc.

    What a step takes and gives back, and what the kernel keeps from one to the next.
    """
    if not CLEAR_REFS.exists():
        return {}
    context = get_context("forkserver")
    # imported once for all; not our kernel, which works in one thread after a fork
    context.set_forkserver_preload(["torch._dynamo"])
    with children_ignore_interrupts():
        ensure_running()
    shares = {}
    for name in present():
        answer, into = context.Pipe(duplex=False)
        child = context.Process(target=_peak, args=(name, sizes, threads, into), daemon=True)
        child.start()
        into.close()  # so that a child that dies ends the waiting
        try:
            shares[name] = answer.recv()
        except EOFError:
            raise ChildProcessError(
                f"the process that measures the memory of {name} died: choose smaller --shapes"
            ) from None
        child.join()
    return shares


def _peak(name: str, sizes: list[Shape], threads: int, into: Connection) -> None:
    """Send what a step takes, and what the kernel keeps, per byte of the weights."""
    malloc = ctypes.CDLL(None)
    malloc.mallopt(M_MMAP_THRESHOLD, 1 << 16)  # what is freed goes back: what is held counts alone
    torch.set_num_threads(threads)
    params = _weights(sizes)
    for p in params:
        p.grad = gradient(p.detach(), "open")
    optimizer = PEERS[name].build(params)
    for _ in range(2):
        optimizer.step()
    malloc.malloc_trim(0)
    CLEAR_REFS.write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    for _ in range(3):
        optimizer.step()
    kept = sum(fused.bytes for fused in getattr(optimizer, "_fused", {}).values())
    weights = sum(p.nbytes for p in params)
    with suppress(BrokenPipeError):  # the bench has been stopped
        into.send(((_status("VmHWM") - before) / weights, kept / weights))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
