"""One optimizer step against its peers: interleaved rounds, medians, extra memory, one table.

The optimizers share weights and gradients, for lr is so small that no step moves them, and have
states of their own: GPT-2 with all peers stays below 14 GB.
"""

import csv
import ctypes
import gc
import random
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP
from tangential.backends import native

Shape = tuple[int, ...]
Build = Callable[[list[Parameter]], Optimizer]
Say = Callable[[str], None]

ADAM: dict[str, Any] = {"lr": 1e-9, "weight_decay": 1e-2}
MOMENTUM = {**ADAM, "momentum": 0.9}
OURS = ("tangential AdamP fused", "tangential SGDP fused")
BASE = {"adam": "torch AdamW fused", "sgd": "torch SGD fused"}
# bytes per weight that a step has to move: it reads w, g and the states, and writes all but g
TRAFFIC = {"adam": 28, "sgd": 20, "copy": 8}
CHANCE = 0.08  # that |cos| < .1 / sqrt(n) for two unrelated vectors of many elements n
CLEAR_REFS = Path("/proc/self/clear_refs")
M_MMAP_THRESHOLD = -3  # of malloc.h


class Peer(NamedTuple):
    """An optimizer of the bench; a slow one takes part in every third round."""

    rule: str
    slow: bool
    build: Build


class Result(NamedTuple):
    """A case; by peer, the median seconds of a step and its extra memory per byte of weights."""

    shape: str
    gate: str
    threads: int
    rounds: int
    weights: int
    copy: float  # seconds that a copy of the weights takes
    seconds: dict[str, float]
    memory: dict[str, float]

    def ratio(self, peer: str) -> float:
        """Time in units of torch's fused optimizer of the same rule."""
        return self.seconds[peer] / self.seconds[BASE[PEERS[peer].rule]]

    def of_copy(self, peer: str) -> float:
        """Bytes per second in units of the copy's."""
        return TRAFFIC[PEERS[peer].rule] / TRAFFIC["copy"] * self.copy / self.seconds[peer]


def _published(module: str) -> Build:
    return lambda w: import_module(module).AdamP(w, **ADAM)


PEERS = {  # a name begins with the package
    "tangential AdamP fused": Peer("adam", False, lambda w: AdamP(w, fused=True, **ADAM)),
    "tangential AdamP foreach": Peer("adam", True, lambda w: AdamP(w, foreach=True, **ADAM)),
    "adamp AdamP": Peer("adam", True, _published("adamp")),
    "timm AdamP": Peer("adam", True, _published("timm.optim")),
    "pytorch_optimizer AdamP": Peer("adam", True, _published("pytorch_optimizer")),
    "torch AdamW fused": Peer("adam", False, lambda w: AdamW(w, fused=True, **ADAM)),
    "torch AdamW foreach": Peer("adam", True, lambda w: AdamW(w, foreach=True, **ADAM)),
    "tangential SGDP fused": Peer("sgd", False, lambda w: SGDP(w, fused=True, **MOMENTUM)),
    "torch SGD fused": Peer("sgd", False, lambda w: SGD(w, fused=True, **MOMENTUM)),
}


def absent() -> dict[str, str]:
    """The peers that cannot run here, and why."""
    reasons = {name: "not installed" for name in PEERS if not find_spec(name.split()[0])}
    if native.kernel is None:
        reasons |= dict.fromkeys(OURS, native.reason())
    return reasons


def _present() -> dict[str, Peer]:
    without = absent()
    return {name: peer for name, peer in PEERS.items() if name not in without}


def _torchvision(model: str) -> list[Shape]:
    if not find_spec("torchvision"):
        raise ModuleNotFoundError(f"{model} needs torchvision: install it or choose other shapes")
    with torch.device("meta"):
        built = import_module("torchvision.models").get_model(model)
    return [tuple(p.shape) for p in built.parameters()]


def _gpt2() -> list[Shape]:
    """GPT-2 124M.

    >>> sum(torch.Size(shape).numel() for shape in _gpt2())
    124439808
    """
    d = 768
    norm, attention = [(d,), (d,)], [(d, 3 * d), (3 * d,), (d, d), (d,)]
    mlp = [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *12 * (norm + attention + norm + mlp), *norm]


def _tiny() -> list[Shape]:
    sizes = random.Random(0)
    return [(8, sizes.randint(8, 512)) for _ in range(1000)]


SHAPES: dict[str, Callable[[], list[Shape]]] = {
    "resnet18": lambda: _torchvision("resnet18"),
    "resnet50": lambda: _torchvision("resnet50"),
    "vit_b_16": lambda: _torchvision("vit_b_16"),
    "gpt2": _gpt2,
    "tiny": _tiny,  # 1,000 matrices of 64 to 4,096 elements
    "embedding": lambda: [(50257, 768)],
}
# the usual gradient of a matrix, and the one that it has by chance
GATES = {"open": ("open", "open"), "shut": ("shut", "shut"), "flicker": ("shut", "chance")}


def gradient(weight: Tensor, kind: str) -> Tensor:
    """A gradient orthogonal to every row ("open"), to none ("shut"), or to their whole ("chance").

    So the gate fires by row, not at all, or by weight.
    """
    result = torch.randn_like(weight)
    if weight.dim() < 2:
        return result
    rows, g = weight.flatten(1), result.flatten(1)
    ww = rows.square().sum(1, keepdim=True)
    g -= (rows * g).sum(1, keepdim=True) / ww * rows
    if kind != "open":
        radial = g.norm(dim=1, keepdim=True) / (2 * ww.sqrt())
        if kind == "chance":  # radial parts that cancel
            radial[::2] *= -1
            radial -= (radial * ww).sum() / ww.sum()
        g += radial * rows
    return result


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
            results.append(Result(shape, gate, n, rounds, stage.elements, copy, seconds, memory))
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
        for name, peer in _present().items():
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


def _extra_memory(sizes: list[Shape], threads: int) -> dict[str, float]:
    """Extra memory of every peer, each in a fresh process, the gate open; {} without /proc."""
    if not CLEAR_REFS.exists():
        return {}
    context = get_context("forkserver")
    # imported once for all; not our kernel, which works in one thread after a fork
    context.set_forkserver_preload(["torch._dynamo"])
    shares = {}
    for name in _present():
        answer, into = context.Pipe(duplex=False)
        child = context.Process(target=_peak, args=(name, sizes, threads, into))
        child.start()
        into.close()  # so that a child that dies ends the waiting
        shares[name] = answer.recv()
        child.join()
    return shares


def _peak(name: str, sizes: list[Shape], threads: int, into: Connection) -> None:
    """Send what a step takes beside weights, gradients and states, per byte of the weights."""
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
    plans = sum(fused.bytes for fused in getattr(optimizer, "_fused", {}).values())
    into.send((_status("VmHWM") - before + plans) / sum(p.nbytes for p in params))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def print_table(results: list[Result], console: Console) -> None:
    """Print a row for every case, one for the extra memory of every shape, a column a peer."""
    names = [name for name in PEERS if name in results[0].seconds]
    table = Table(
        title=_title(results), caption=_caption(results), box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.title_justify = table.caption_justify = "left"
    for heading in ("weights", "gate", "thr."):
        table.add_column(heading)
    for heading in (*names, "copy GB/s", "AdamP of copy", "SGDP of copy"):
        table.add_column(heading.replace(" ", "\n").replace("_", "_\n"), justify="right")
    for shape, cases in groupby(results, key=lambda result: result.shape):
        memory: dict[str, float] = {}
        for case in cases:
            cells = [_cell(case, name) for name in names]
            table.add_row(shape, case.gate, str(case.threads), *cells, *_bandwidths(case))
            memory = case.memory
        if memory:
            table.add_row(shape, "memory", "", *(f"{100 * memory[name]:.1f} %" for name in names))
        table.add_section()
    console.print(table)


def _title(results: list[Result]) -> str:
    return (
        f"ms per step, median of {results[0].rounds} interleaved rounds (torch {torch.__version__}"
        ", CPU); x: against torch AdamW fused, SGDP against torch SGD fused"
    )


def _caption(results: list[Result]) -> str:
    slow = len(range(0, results[0].rounds, _every(results[0].rounds)))
    lines = [
        f"foreach, adamp, timm and pytorch_optimizer took part in {slow} of the rounds.",
        "of copy: bytes per second, 28 a weight for AdamP and 20 for SGDP, against a copy's 8.",
        "memory: peak of a step beside weights, gradients and states, with the kernel's plans, "
        "in % of the weights; gate open.",
        *(f"left out: {name}: {reason}" for name, reason in absent().items()),
    ]
    return "\n".join(lines)


def _cell(case: Result, name: str) -> str:
    ms = 1000 * case.seconds[name]
    figure = f"{ms:.{0 if ms >= 100 else 1 if ms >= 10 else 2}f}"
    if name in BASE.values():
        return figure
    ratio = case.ratio(name)
    return f"{figure} {ratio:.{1 if ratio >= 10 else 2}f}x"


def _bandwidths(case: Result) -> list[str]:
    copy = TRAFFIC["copy"] * case.weights / case.copy / 1e9
    ours = [f"{100 * case.of_copy(name):.0f} %" for name in OURS if name in case.seconds]
    return [f"{copy:.1f}", *ours]


def write_csv(results: list[Result], path: Path) -> None:
    """Write a line for every case and peer; the last two fields are shares."""
    heading = ("weights", "gate", "threads", "optimizer", "ms", "ratio", "of_copy", "memory")
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(heading)
        for r in results:
            for name, seconds in r.seconds.items():
                figures = (1000 * seconds, r.ratio(name), r.of_copy(name), r.memory.get(name, ""))
                lines.writerow((r.shape, r.gate, r.threads, name, *figures))
