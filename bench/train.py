"""Time training end to end: ResNet-18 under AdamP and under torch's fused AdamW, in alternation.

    python bench/train.py [--iterations 30] [--threads N]

An iteration is zero_grad, forward, backward and step on a batch of 32 random images of 64x64.
"""

import argparse
import statistics
import time
from typing import Any

import torch
import torchvision
from torch.nn.functional import cross_entropy

from tangential import AdamP

OPTIONS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-2}
BASE = "torch AdamW fused"
OPTIMIZERS = {
    "tangential AdamP": lambda w: AdamP(w, **OPTIONS),
    BASE: lambda w: torch.optim.AdamW(w, fused=True, **OPTIONS),
}
WARM_UP = 3


def iteration(model, optimizer, images, labels):
    """Seconds of an iteration."""
    start = time.perf_counter()
    optimizer.zero_grad()
    cross_entropy(model(images), labels).backward()
    optimizer.step()
    return time.perf_counter() - start


def measure(iterations):
    """Seconds of every iteration but the first, by optimizer."""
    training = {}
    for name, build in OPTIMIZERS.items():
        torch.manual_seed(0)
        model = torchvision.models.resnet18()
        training[name] = model, build(model.parameters())
    times = {name: [] for name in training}
    for _ in range(WARM_UP + iterations):
        images, labels = torch.randn(32, 3, 64, 64), torch.randint(1000, (32,))
        for name, (model, optimizer) in training.items():
            times[name].append(iteration(model, optimizer, images, labels))
    return {name: values[WARM_UP:] for name, values in times.items()}


def main():
    """Print medians and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    medians = {k: statistics.median(v) for k, v in measure(options.iterations).items()}
    print(f"ResNet-18, 64x64, batch 32, {options.threads} threads, torch {torch.__version__}")
    print(f"ms per iteration, median of {options.iterations}, in alternation")
    for name, seconds in medians.items():
        print(f"{name:18} {1000 * seconds:8.1f}  ({seconds / medians[BASE]:.3f}x)")


if __name__ == "__main__":
    main()
