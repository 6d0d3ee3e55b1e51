"""What a monitor costs: training steps without one, with an idle one, and logged ones.

    python bench/monitor.py [--models resnet50 gpt2] [--optimizers AdamP AdamW] [--rounds 9]

A training step is zero_grad, forward, backward and optimizer.step: ResNet-50 on 8 images of
224x224, GPT-2 124M on its context of 1,024 tokens. A monitor works only within optimizer.step, so
that part is timed separately. The other parts vary by more than a monitor costs: all kinds share
one median of them. "every=50" is one logged step and 49 idle ones.
"""

from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
import torchvision
from timing import interleaved, medians, options_of, seconds
from torch.nn.functional import cross_entropy

from tangential import AdamP, Monitor

OPTIONS: dict[str, Any] = {"lr": 1e-5, "weight_decay": 1e-2}
OPTIMIZERS = {
    "AdamP": lambda w: AdamP(w, **OPTIONS),
    "AdamW": lambda w: torch.optim.AdamW(w, fused=True, **OPTIONS),
}
KINDS = ("without", "idle", "logged")
IDLE = 10**9  # steps between two logs


class Parts(NamedTuple):
    """Seconds of a training step: of zero_grad, forward and backward, and of optimizer.step."""

    backward: float
    step: float


def resnet50():
    """A model, and a function that returns the loss of one batch."""
    model = torchvision.models.resnet50()
    images, labels = torch.randn(8, 3, 224, 224), torch.randint(0, 1000, (8,))
    return model, lambda: cross_entropy(model(images), labels)


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config())
    tokens = torch.randint(0, 50257, (1, 1024))
    return model, lambda: model(input_ids=tokens, labels=tokens).loss


MODELS = {"resnet50": resnet50, "gpt2": gpt2}


def training_step(kind, model, loss, optimizer):
    """Take and time one training step."""

    def backward():
        optimizer.zero_grad()
        loss().backward()

    monitor = None
    if kind != "without":  # step 0 is logged; step 1 of a monitor that logs seldom is idle
        every, step = (1, 0) if kind == "logged" else (IDLE, 1)
        monitor = Monitor(model, optimizer, every, lambda values, step: None, step=step)
    parts = Parts(seconds(backward), seconds(optimizer.step))
    if monitor:
        monitor.close()
    return parts


def measure(model_name, optimizer_name, rounds):
    """Median seconds of a training step of each kind."""
    torch.manual_seed(0)
    model, loss = MODELS[model_name]()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    actions = {kind: partial(training_step, kind, model, loss, optimizer) for kind in KINDS}
    measured = interleaved(actions, rounds)
    common = median(parts.backward for every in measured.values() for parts in every)
    step_s = medians({kind: [parts.step for parts in every] for kind, every in measured.items()})
    return {kind: common + value for kind, value in step_s.items()}


def main():
    parser = options_of(__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(f"median of {args.rounds} interleaved rounds, {torch.get_num_threads()} threads")
    print(f"{'':18}{'without':>10}{'every=1':>10}{'every=50':>10}")
    for model in args.models:
        for optimizer in args.optimizers:
            step_s = measure(model, optimizer, args.rounds)
            base = step_s["without"]
            every_1 = step_s["logged"] / base
            every_50 = (step_s["logged"] + 49 * step_s["idle"]) / 50 / base
            print(f"{model:9}{optimizer:9}{base:8.3f} s{every_1:9.3f}x{every_50:9.4f}x", flush=True)


if __name__ == "__main__":
    main()
