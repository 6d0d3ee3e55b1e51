"""Time one optimizer step against its peers: interleaved, medians, one table.

    python bench/step.py [--rounds 15] [--threads N] [--shapes resnet18 tiny ...]

Gradients are made orthogonal to every row ("open": the gate fires) or given a radial part ("shut").
All optimizers step once per round, in turn, so that a change of the machine's speed meets them
alike; a figure is the median over rounds, and the ratio that of medians to torch's fused AdamW.
"""

import argparse
import statistics
import time

import adamp
import pytorch_optimizer
import timm.optim
import torch
import torchvision
from rich.console import Console
from rich.table import Table

from tangential import AdamP

# so small a step leaves the weights, and with them the gate, as they are
OPTIONS = {"lr": 1e-9, "weight_decay": 1e-2}
PEERS = {
    "torch AdamW fused": lambda w: torch.optim.AdamW(w, fused=True, **OPTIONS),
    "torch AdamW foreach": lambda w: torch.optim.AdamW(w, foreach=True, **OPTIONS),
    "tangential AdamP foreach": lambda w: AdamP(w, foreach=True, **OPTIONS),
    "tangential AdamP eager": lambda w: AdamP(w, foreach=False, **OPTIONS),
    "adamp 0.3.0 AdamP": lambda w: adamp.AdamP(w, **OPTIONS),
    "timm AdamP": lambda w: timm.optim.AdamP(w, **OPTIONS),
    "pytorch_optimizer AdamP": lambda w: pytorch_optimizer.AdamP(w, **OPTIONS),
}


def weights_of(model):
    """Copies of a model's weights."""
    return [p.detach().clone() for p in model.parameters()]


def tiny():
    """1,000 matrices of 64 to 4,096 elements."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(8, 513, (1000,), generator=generator)
    return [torch.randn(8, int(n), generator=generator) for n in sizes]


SHAPES = {
    "resnet18": lambda: weights_of(torchvision.models.resnet18()),
    "resnet50": lambda: weights_of(torchvision.models.resnet50()),
    "tiny": tiny,
}


def gradient(w, gate):
    """A gradient that opens the row view, or one that shuts every view."""
    g = torch.randn_like(w)
    if w.dim() < 2:
        return g
    rows, of_g = w.flatten(1), g.flatten(1)
    radial = (rows * of_g).sum(1, keepdim=True) / (rows * rows).sum(1, keepdim=True)
    radial = radial if gate == "open" else -1.0
    return (of_g - radial * rows).view_as(w)


def measure(weights, gate, rounds):
    """Median seconds per step of every peer."""
    optimizers = {}
    for name, build in PEERS.items():
        params = [torch.nn.Parameter(w.clone()) for w in weights]
        for p in params:
            p.grad = gradient(p.detach(), gate)
        optimizers[name] = build(params)
        for _ in range(2):
            optimizers[name].step()
    times = {name: [] for name in PEERS}
    for _ in range(rounds):
        for name, optimizer in optimizers.items():
            start = time.perf_counter()
            optimizer.step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    """Print one table of milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = [(shape, gate) for shape in options.shapes for gate in ("open", "shut")]
    results = {}
    for shape, gate in cases:
        torch.manual_seed(0)
        results[shape, gate] = measure(SHAPES[shape](), gate, options.rounds)
    table = Table(
        title=f"ms per step (x fused AdamW), torch {torch.__version__}, CPU, "
        f"{options.threads} threads, median of {options.rounds} rounds"
    )
    table.add_column("optimizer")
    for shape, gate in cases:
        table.add_column(f"{shape}\n{gate}", justify="right")
    for name in PEERS:
        cells = []
        for case in cases:
            seconds, base = results[case][name], results[case]["torch AdamW fused"]
            cells.append(f"{1e3 * seconds:.1f} ({seconds / base:.1f}x)")
        table.add_row(name, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
