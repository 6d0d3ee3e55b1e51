"""Time training end to end: ResNet-18 with AdamP and with torch's fused AdamW, interleaved.

    python bench/train.py [--iterations 30] [--threads N]

An iteration is zero_grad, forward, backward and step on a batch of 32 random images of 64x64.
"""

from functools import partial
from typing import Any

import torch
import torchvision
from timing import interleaved, medians, options_of, seconds
from torch.nn.functional import cross_entropy

from tangential import AdamP

OPTIONS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-2}
BASELINE = "torch AdamW fused"
OPTIMIZERS = {
    "tangential AdamP": lambda w: AdamP(w, **OPTIONS),
    BASELINE: lambda w: torch.optim.AdamW(w, fused=True, **OPTIONS),
}


class Training:
    """A model and its optimizer."""

    def __init__(self, build):
        torch.manual_seed(0)
        self.model = torchvision.models.resnet18()
        self.optimizer = build(self.model.parameters())

    def iterate(self, batch):
        """Train on one batch."""
        self.optimizer.zero_grad()
        cross_entropy(self.model(batch["images"]), batch["labels"]).backward()
        self.optimizer.step()


def measure(iterations):
    """Seconds of every iteration, by optimizer; in each round all see the same batch."""
    trainings = {name: Training(build) for name, build in OPTIMIZERS.items()}
    batch = {}

    def draw():
        batch.update(images=torch.randn(32, 3, 64, 64), labels=torch.randint(1000, (32,)))

    return interleaved(
        {name: partial(seconds, partial(t.iterate, batch)) for name, t in trainings.items()},
        iterations,
        warm_up=3,
        before_round=draw,
    )


def main():
    """Print medians and their ratio."""
    parser = options_of(__doc__)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    median_s = medians(measure(options.iterations))
    print(f"ResNet-18, 64x64, batch 32, {options.threads} threads, torch {torch.__version__}")
    print(f"ms per iteration, median of {options.iterations}, interleaved")
    for name, value in median_s.items():
        print(f"{name:18} {1000 * value:8.1f}  ({value / median_s[BASELINE]:.3f}x)")


if __name__ == "__main__":
    main()
