"""What watching costs: training steps without a monitor, with an idle one, and logged ones.

    python bench/monitor.py [--models resnet50 gpt2] [--optimizers AdamP AdamW] [--rounds 9]

A step is zero_grad, forward, backward and step: ResNet-50 on 8 images of 224x224, GPT-2 124M on
its context of 1,024 tokens. A monitor works within optimizer.step alone, so that is timed by
itself; the rest, which varies more than a monitor costs, is one median for all. "every=50" is one
logged step and 49 idle ones.
"""

import argparse
import statistics
import time
from typing import Any

import torch
import torchvision
from torch.nn.functional import cross_entropy

from tangential import AdamP, Monitor

OPTIONS: dict[str, Any] = {"lr": 1e-5, "weight_decay": 1e-2}
OPTIMIZERS = {
    "AdamP": lambda w: AdamP(w, **OPTIONS),
    "AdamW": lambda w: torch.optim.AdamW(w, fused=True, **OPTIONS),
}
KINDS = ("without", "idle", "logged")
IDLE = 10**9  # steps from one log to the next


def resnet50():
    """A model and the loss of one batch."""
    model = torchvision.models.resnet50()
    images, labels = torch.randn(8, 3, 224, 224), torch.randint(0, 1000, (8,))
    return model, lambda: cross_entropy(model(images), labels)


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config())
    tokens = torch.randint(0, 50257, (1, 1024))
    return model, lambda: model(input_ids=tokens, labels=tokens).loss


MODELS = {"resnet50": resnet50, "gpt2": gpt2}


def step_s(kind, model, loss, optimizer):
    """Seconds of a training step: of all but the optimizer's step, and of that."""
    monitor = None
    if kind != "without":  # step 1 of many is idle, step 0 is logged
        every, step = (1, 0) if kind == "logged" else (IDLE, 1)
        monitor = Monitor(model, optimizer, every, lambda values, step: None, step=step)
    start = time.perf_counter()
    optimizer.zero_grad()
    loss().backward()
    between = time.perf_counter()
    optimizer.step()
    end = time.perf_counter()
    if monitor:
        monitor.close()
    return between - start, end - between


def measure(model_name, optimizer_name, rounds):
    """Median seconds of a step of each kind, in turn."""
    torch.manual_seed(0)
    model, loss = MODELS[model_name]()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    times, rest = {kind: [] for kind in KINDS}, []
    for turn in range(-1, rounds):
        for kind in KINDS[turn % 3 :] + KINDS[: turn % 3]:
            others, seconds = step_s(kind, model, loss, optimizer)
            if turn >= 0:
                rest.append(others)
                times[kind].append(seconds)
    common = statistics.median(rest)
    return {kind: common + statistics.median(values) for kind, values in times.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(f"median of {args.rounds} interleaved rounds, {torch.get_num_threads()} threads")
    print(f"{'':18}{'without':>10}{'every=1':>10}{'every=50':>10}")
    for model in args.models:
        for optimizer in args.optimizers:
            found = measure(model, optimizer, args.rounds)
            base = found["without"]
            often = found["logged"] / base
            seldom = (found["logged"] + 49 * found["idle"]) / 50 / base
            print(f"{model:9}{optimizer:9}{base:8.3f} s{often:9.3f}x{seldom:9.4f}x", flush=True)


if __name__ == "__main__":
    main()
