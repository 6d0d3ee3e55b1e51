"""Time one optimizer step on a GPU: AdamP, SGDP and their peers. Without a GPU it says so and ends.

    python bench/gpu.py                     all models
    python bench/gpu.py resnet50 tiny       two of them

Per optimizer: milliseconds (the median of some steps), kernel launches, bytes per second, these
divided by those of a copy, and the peak memory of a step on top of weights, gradients and states.
This file has not run on a GPU yet.
"""

import gc
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import torch
from optimizer_step.peers import ADAM, MOMENTUM, PEERS, Peer
from optimizer_step.results import COPY_TRAFFIC, TRAFFIC
from optimizer_step.workloads import SHAPES, Shape, gradient, weights
from timing import options_of
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn import Parameter
from torch.optim import SGD
from torch.profiler import ProfilerActivity, profile

from tangential import SGDP
from tangential.backends import triton

WARM_UP = 3


def _llama() -> list[Shape]:
    """Llama 3.2 with 1 billion weights."""
    d, hidden, key_value = 2048, 8192, 512
    attention = [(d, d), (key_value, d), (key_value, d), (d, d)]
    mlp = [(hidden, d), (hidden, d), (d, hidden)]
    return [(128_256, d), *16 * (attention + mlp + [(d,), (d,)]), (d,)]


MODELS: dict[str, Callable[[], list[Shape]]] = {
    **{name: SHAPES[name] for name in ("resnet50", "vit_b_16", "gpt2")},
    "llama": _llama,
    "tiny": SHAPES["tiny"],
}
OPTIMIZERS = PEERS | {
    "tangential SGDP foreach": Peer("sgd", False, lambda w: SGDP(w, foreach=True, **MOMENTUM)),
    "torch SGD foreach": Peer("sgd", False, lambda w: SGD(w, foreach=True, **MOMENTUM)),
}


class Figures(NamedTuple):
    """What a step takes."""

    ms: float
    launches: int
    peak_bytes: int


def missing(name: str) -> str:
    """Why an optimizer cannot run here; "" if it can."""
    if not find_spec(name.split()[0]):
        return "not installed"
    return triton.reason() if name.startswith("tangential") and name.endswith("fused") else ""


def measured(step: Callable[[], object], rounds: int) -> Figures:
    """Time a step; count its launches and the bytes that it allocates for a while."""
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = [_milliseconds(step) for _ in range(rounds)]
    peak = torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    events = profiled.events() or []
    launches = sum(event.device_type == DeviceType.CUDA for event in events)
    return Figures(median(times), launches, peak)


def _milliseconds(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def line(name: str, figures: Figures, copy_ms: float, count: int) -> str:
    """One line of the table, for an optimizer of `count` weights."""
    gb_s = TRAFFIC[OPTIMIZERS[name].rule] * count / figures.ms / 1e6
    copy_gb_s = COPY_TRAFFIC * count / copy_ms / 1e6
    return (
        f"  {name:28}{figures.ms:9.3f} ms{figures.launches:7} launches{gb_s:8.0f} GB/s"
        f"{100 * gb_s / copy_gb_s:6.0f} % of copy{figures.peak_bytes / 1e6:9.0f} MB"
    )


def report(model: str, rounds: int) -> None:
    """Measure the optimizers on the weights of a model, one after another, and print a table."""
    with torch.device("cuda"):
        params: list[Parameter] = weights(MODELS[model]())
    for p in params:
        p.grad = gradient(p.detach(), "open")
    count = sum(p.numel() for p in params)
    copy_ms = measured(_copy(torch.cat([p.detach().view(-1) for p in params])), rounds).ms
    print(f"{model}: {count / 1e6:.1f} million weights, copy {copy_ms:.3f} ms")
    for name, peer in OPTIMIZERS.items():
        if reason := missing(name):
            print(f"  {name:28}left out: {reason}")
            continue
        optimizer = peer.build(params)
        print(line(name, measured(optimizer.step, rounds), copy_ms, count))
        del optimizer  # its states, before the next one has some
        gc.collect()


def _copy(source: Tensor) -> Callable[[], object]:
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def main(arguments: list[str] | None = None) -> None:
    """Print a table per model."""
    options = options_of(__doc__)
    options.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    options.add_argument("--rounds", type=int, default=30)
    chosen = options.parse_args(arguments)
    if unknown := [model for model in chosen.models if model not in MODELS]:
        options.error(f"no model is named {unknown[0]!r}: choose from {', '.join(MODELS)}")
    if not torch.cuda.is_available():
        print("No GPU was found, so nothing was measured")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, lr {ADAM['lr']}")
    for model in chosen.models or MODELS:
        report(model, chosen.rounds)


if __name__ == "__main__":
    main()
