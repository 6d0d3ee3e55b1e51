"""Time torch.compile of an optimizer's step, and the compiled step.

    python bench/compiled.py

The learning rate is a tensor, as torch's documentation recommends. Seconds of the first two steps,
with an empty cache, less those of two compiled steps; then interleaved compiled steps. torch's
optimizers take long: ResNet-18's AdamW one to three minutes on two cores.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import torch
from optimizer_step.workloads import GATES, SHAPES, Gradients, weights
from timing import interleaved, medians, options_of, processor, seconds
from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from tangential import SGDP, AdamP

Step = Callable[[], object]
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "AdamW": AdamW,
    "AdamP": AdamP,
    "SGD": partial(SGD, momentum=0.9),
    "SGDP": partial(SGDP, momentum=0.9),
}
BASELINES = {"AdamP": "AdamW", "SGDP": "SGD"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print seconds of compiling and milliseconds of a step, and ratios to torch's optimizers."""
    parser = options_of(__doc__)
    parser.add_argument("--shapes", choices=SHAPES, default="resnet18")
    parser.add_argument("--rounds", type=int, default=31, help="interleaved steps")
    parsed = parser.parse_args(arguments)
    if parsed.rounds < 1:
        parser.error(f"--rounds: must be at least 1, got {parsed.rounds}")
    params = weights(SHAPES[parsed.shapes]())
    gradients = Gradients(params)
    gradients.choose(GATES["flicker"])
    gradients.draw()
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    compiling, steps = compiled(params)
    actions = {name: partial(seconds, step) for name, step in steps.items()}
    times = medians(interleaved(actions, parsed.rounds, before_round=gradients.draw))
    print(f"{parsed.shapes}, {len(params)} weights: seconds to compile, milliseconds of a step")
    for name in steps:
        base = BASELINES.get(name, name)
        compile_time, ratio = compiling[name], compiling[name] / compiling[base]
        step_time, step_ratio = 1e3 * times[name], times[name] / times[base]
        print(f"{name:6} {compile_time:7.1f} ({ratio:.2f}x) {step_time:8.2f} ({step_ratio:.2f}x)")


def compiled(params: list[Parameter]) -> tuple[dict[str, float], dict[str, Step]]:
    """The seconds that each optimizer's step takes to compile, and the compiled steps."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        tiny = Parameter(torch.ones(8))
        tiny.grad = torch.ones(8)
        _compiled(SGD, [tiny])  # imports Inductor
        pairs = {name: _compiled(build, params) for name, build in OPTIMIZERS.items()}
    return {name: x[0] for name, x in pairs.items()}, {name: x[1] for name, x in pairs.items()}


def _compiled(build: Callable[..., Optimizer], params: list[Parameter]) -> tuple[float, Step]:
    optimizer = build(params, lr=torch.tensor(1e-9), weight_decay=1e-2)
    step = torch.compile(optimizer.step)  # with fullgraph=True, torch's optimizers raise
    first = sum(seconds(step) for _ in range(2))  # torch's SGD makes its states in the first
    return first - sum(seconds(step) for _ in range(2)), step


if __name__ == "__main__":
    main()
