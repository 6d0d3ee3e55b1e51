"""One optimizer step against its peers: interleaved rounds, medians, extra memory, one table.

All optimizers of a case share weights and gradients, for lr is so small that no step moves them,
and have their own states: GPT-2 with all nine peers stays below 14 GB.
"""

import csv
import ctypes
import gc
import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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
Say = Callable[[str], None]

ADAM = {"lr": 1e-9, "weight_decay": 1e-2}
MOMENTUM = {**ADAM, "momentum": 0.9}
# the bytes a step must move per weight: it reads w, g and the states, and writes all but g
TRAFFIC = {"adam": 28, "sgd": 20}
BASE = {"adam": "torch AdamW fused", "sgd": "torch SGD fused"}
CHANCE = 0.08  # of |cos| < .1 / sqrt(n) between unrelated vectors of many elements n


class Peer(NamedTuple):
    """An optimizer of the bench; a slow one runs in every third round only."""

    rule: str
    build: Callable[[list[Parameter]], Optimizer]
    slow: bool = False
    module: str = "torch"


class Result(NamedTuple):
    """A case: seconds per step and extra memory (share of the weights' bytes), by peer."""

    shape: str
    gate: str
    threads: int
    weights: int
    seconds: dict[str, float]
    copy: float  # seconds that a copy of the weights takes
    memory: dict[str, float]
    rounds: dict[str, int]

    def ratio(self, peer: str) -> float:
        """Time in units of torch's fused optimizer of the same rule."""
        return self.seconds[peer] / self.seconds[BASE[PEERS[peer].rule]]

    def of_copy(self, peer: str) -> float:
        """Bytes per second in units of the copy's."""
        return TRAFFIC[PEERS[peer].rule] / self.seconds[peer] / (8 / self.copy)


def _published(module: str) -> Callable[[list[Parameter]], Optimizer]:
    return lambda w: import_module(module).AdamP(w, **ADAM)


PEERS = {
    "tangential AdamP fused": Peer("adam", lambda w: AdamP(w, fused=True, **ADAM)),
    "tangential AdamP foreach": Peer("adam", lambda w: AdamP(w, foreach=True, **ADAM), True),
    "adamp": Peer("adam", _published("adamp"), True, "adamp"),
    "timm": Peer("adam", _published("timm.optim"), True, "timm"),
    "pytorch_optimizer": Peer("adam", _published("pytorch_optimizer"), True, "pytorch_optimizer"),
    "torch AdamW fused": Peer("adam", lambda w: AdamW(w, fused=True, **ADAM)),
    "torch AdamW foreach": Peer("adam", lambda w: AdamW(w, foreach=True, **ADAM), True),
    "tangential SGDP fused": Peer("sgd", lambda w: SGDP(w, fused=True, **MOMENTUM)),
    "torch SGD fused": Peer("sgd", lambda w: SGD(w, fused=True, **MOMENTUM)),
}


def absent() -> dict[str, str]:
    """The peers that cannot run here, and why."""
    reasons = {n: f"{p.module} is not installed" for n, p in PEERS.items() if not find_spec(p.module)}
    kernel = {n: native.reason() for n in PEERS if n.startswith("tangential") and "fused" in n}
    return reasons | (kernel if native.kernel is None else {})


def _torchvision(model: str) -> list[Shape]:
    if not find_spec("torchvision"):
        raise ModuleNotFoundError(
            f"the weights of {model} need torchvision: install it, or choose other shapes"
        )
    with torch.device("meta"):
        built = import_module("torchvision.models").get_model(model)
    return [tuple(p.shape) for p in built.parameters()]


def _gpt2() -> list[Shape]:
    """GPT-2 124M.

    >>> sum(math.prod(shape) for shape in _gpt2())
    124439808
    """
    d = 768
    attention = [(d, 3 * d), (3 * d,), (d, d), (d,)]
    mlp = [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    norm = [(d,), (d,)]
    return [(50257, d), (1024, d), *12 * (norm + attention + norm + mlp), *norm]


def _tiny() -> list[Shape]:
    """1,000 matrices of 64 to 4,096 elements."""
    sizes = random.Random(0)
    return [(8, sizes.randint(8, 512)) for _ in range(1000)]


SHAPES: dict[str, Callable[[], list[Shape]]] = {
    "resnet18": lambda: _torchvision("resnet18"),
    "resnet50": lambda: _torchvision("resnet50"),
    "vit_b_16": lambda: _torchvision("vit_b_16"),
    "gpt2": _gpt2,
    "tiny": _tiny,
    "embedding": lambda: [(50257, 768)],
}
# the usual gradient of a matrix, and the one it has by chance
GATES = {"open": ("open", "open"), "shut": ("shut", "shut"), "flicker": ("shut", "chance")}


def gradient(weight: Tensor, kind: str) -> Tensor:
    """A gradient under which the gate fires by row ("open"), not ("shut"), or by weight ("chance").

    Orthogonal to every row; with a radial part in every row; or with radial parts that cancel.
    """
    noise = torch.randn_like(weight)
    if weight.dim() < 2:
        return noise
    rows, g = weight.flatten(1), noise.flatten(1)
    ww = rows.square().sum(1, keepdim=True)
    g -= (rows * g).sum(1, keepdim=True) / ww * rows
    if kind != "open":
        radial = g.norm(dim=1, keepdim=True) / (2 * ww.sqrt())
        if kind == "chance":
            radial[::2] *= -1
            radial -= (radial * ww).sum() / ww.sum()
        g += radial * rows
    return noise


def bench(
    shapes: list[str],
    gates: list[str],
    threads: list[int],
    rounds: int,
    say: Say = lambda _: None,
) -> list[Result]:
    """Time every peer that is installed in every case; `say` hears of each case as it begins.

    Args:
        shapes: Names in SHAPES.
        gates: Names in GATES.
        threads: Numbers of threads.
        rounds: Rounds a median is taken over; the slow peers take a third, five at least.
        say: Shows progress.

    Raises:
        ModuleNotFoundError: a shape needs torchvision; nothing was measured.
    """
    sizes = {shape: SHAPES[shape]() for shape in shapes}
    with _quiet():
        return [
            result
            for shape in shapes
            for result in _cases(shape, sizes[shape], gates, threads, rounds, say)
        ]


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection; threads and random numbers as they were, afterwards."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    with torch.random.fork_rng(devices=[]):
        gc.disable()
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            if collecting:
                gc.enable()


def _cases(
    shape: str, sizes: list[Shape], gates: list[str], threads: list[int], rounds: int, say: Say
) -> Iterator[Result]:
    say(f"{shape}: extra memory")
    memory = _extra_memory(sizes, max(threads))  # first, while this process holds no weights
    params = _weights(sizes)
    flat = torch.cat([p.detach().flatten() for p in params])
    copy = torch.empty_like(flat)
    optimizers = {name: peer.build(params) for name, peer in PEERS.items() if name not in absent()}
    for gate in gates:
        grads = [_both(p.detach(), *GATES[gate]) for p in params]
        for n in threads:
            say(f"{shape}: gate {gate}, {n} threads")
            torch.set_num_threads(n)
            steps: dict[str, Callable[[], Any]] = {k: o.step for k, o in optimizers.items()}
            times = _times({**steps, "copy": lambda: copy.copy_(flat)}, params, grads, rounds)
            medians = {name: statistics.median(values) for name, values in times.items()}
            counts = {name: len(values) for name, values in times.items()}
            yield Result(shape, gate, n, flat.numel(), medians, medians.pop("copy"), memory, counts)


def _weights(sizes: list[Shape]) -> list[Parameter]:
    torch.manual_seed(0)
    return [Parameter(0.02 * torch.randn(size)) for size in sizes]


def _both(weight: Tensor, usual: str, rare: str) -> tuple[Tensor, Tensor]:
    first = gradient(weight, usual)
    return first, first if rare == usual or weight.dim() < 2 else gradient(weight, rare)


def _times(
    steps: dict[str, Callable[[], Any]],
    params: list[Parameter],
    grads: list[tuple[Tensor, Tensor]],
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of each step in each round; two rounds before them are not timed."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    every, names, flickers = max(1, min(3, rounds // 5)), list(steps), random.Random(0)
    gc.collect()
    for turn in range(-2, rounds):
        for p, (usual, rare) in zip(params, grads, strict=True):
            p.grad = rare if flickers.random() < CHANCE else usual
        first = turn % len(names)  # nobody always follows the same
        for name in names[first:] + names[:first]:
            if turn >= 0 and turn % every and name in PEERS and PEERS[name].slow:
                continue
            start = time.perf_counter()
            steps[name]()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return times
