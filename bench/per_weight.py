"""Time one optimizer per weight, as a step in the backward pass needs it, against one for all.

python bench/per_weight.py              ResNet-50: 161 optimizers
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from optimizer_step.peers import PEERS, Build
from optimizer_step.workloads import GATES, SHAPES, Gradients, weights
from timing import interleaved, medians, options_of, processor, seconds
from torch.nn import Parameter

NAMES = (
    "tangential AdamP fused", "torch AdamW fused", "tangential SGDP fused", "torch SGD fused",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print milliseconds of both ways, and their ratio."""
    parser = options_of(__doc__)
    parser.add_argument("--shapes", choices=SHAPES, default="resnet50")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=41, help="interleaved steps")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    params = weights(SHAPES[parsed.shapes]())
    gradients = Gradients(params)
    gradients.choose(GATES["flicker"])
    gradients.draw()
    ways = {"one": _one, "many": _many}
    actions = {
        f"{name}, {way}": partial(seconds, build(PEERS[name].build, params))
        for name in NAMES
        for way, build in ways.items()
    }
    times = medians(interleaved(actions, parsed.rounds, warm_up=3, before_round=gradients.draw))
    print(f"{processor()}, {parsed.threads} threads, torch {torch.__version__}")
    print(f"{parsed.shapes}: milliseconds of one optimizer, of {len(params)}, and their ratio")
    for name in NAMES:
        one, many = (1e3 * times[f"{name}, {way}"] for way in ways)
        print(f"{name:24}{one:8.2f}{many:8.2f}{many / one:7.2f}x")


def _one(build: Build, params: list[Parameter]) -> Callable[[], object]:
    return build(params).step


def _many(build: Build, params: list[Parameter]) -> Callable[[], object]:
    steps = [build([param]).step for param in params]
    return lambda: [step() for step in steps]


if __name__ == "__main__":
    main()
