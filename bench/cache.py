"""Time steps of weights that stay in the second cache, where arithmetic costs more than memory.

    python bench/cache.py                       the fastest instruction set
    TANGENTIAL_ISA=AVX2 python bench/cache.py   another one

One thread and its CPU time, the fastest of many interleaved rounds, without the price of a call (a
step of one tiny weight). `make bench-rows` has cycles and instructions of every row function.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from time import thread_time

import torch
from optimizer_step.peers import BASELINES, OURS, PEERS
from optimizer_step.workloads import GATES, Gradients, Shape, weights
from timing import interleaved, options_of, processor

from tangential.backends import native

ROWS: dict[str, list[Shape]] = {
    "4,608": [(7, 4608)],
    "512": [(64, 512)],
    "64": [(512, 64)],
    "7x7": [(500, 1, 7, 7)],
    "5x5": [(960, 1, 5, 5)],
    "3x3": 3 * [(960, 1, 3, 3)],
}
STEPS = 5  # of one optimizer in a round: short, so that some are not disturbed
NAMES = (*OURS, *BASELINES.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print nanoseconds per element, and ratios to torch's fused optimizers."""
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="rounds of 5 steps")
    rounds = parser.parse_args(arguments).rounds
    if rounds < 1:
        parser.error(f"--rounds: must be at least 1, got {rounds}")
    if native.kernel is None:
        sys.exit(f"Error: {native.reason()}")
    torch.set_num_threads(1)
    print(f"{processor()}, {native.kernel.instruction_sets[0]}, torch {torch.__version__}")
    print("ns per element (ratio to torch's fused optimizer)")
    print(f"{'row of':8} {'gate':5} {'AdamW':>6} {'AdamP':>13} {'SGD':>6} {'SGDP':>13}")
    for rows, shapes in ROWS.items():
        for gate in ("open", "shut"):
            adamp, sgdp, adamw, sgd = price(shapes, gate, rounds)
            ours = [f"{ns:.3f} ({ns / base:.2f}x)" for ns, base in ((adamp, adamw), (sgdp, sgd))]
            print(f"{rows:8} {gate:5} {adamw:6.3f} {ours[0]:>13} {sgd:6.3f} {ours[1]:>13}")


def price(shapes: list[Shape], gate: str, rounds: int) -> list[float]:
    """Nanoseconds per element of a step of each optimizer in NAMES, on weights of its own."""
    calls = {name: partial(_seconds, _built(name, shapes, gate).step) for name in NAMES}
    calls |= {
        f"{name}, tiny": partial(_seconds, _built(name, [(1, 2)], gate).step) for name in NAMES
    }
    fastest = {name: min(values) for name, values in interleaved(calls, rounds).items()}
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    return [1e9 * (fastest[name] - fastest[f"{name}, tiny"]) / elements / STEPS for name in NAMES]


def _built(name: str, shapes: list[Shape], gate: str) -> torch.optim.Optimizer:
    params = weights(shapes)
    gradients = Gradients(params)
    gradients.choose(GATES[gate])
    gradients.draw()
    return PEERS[name].build(params)


def _seconds(step: Callable[[], object]) -> float:
    step()  # brings the weights into the cache
    start = thread_time()
    for _ in range(STEPS):
        step()
    return thread_time() - start


if __name__ == "__main__":
    main()
