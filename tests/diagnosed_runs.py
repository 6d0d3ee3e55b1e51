"""Short trainings that a monitor logs, and a run made up for damaged files."""

import math
import random
from functools import cache

import torch
from torch import nn
from torch.optim import SGD, AdamW

import tangential
from tangential import Monitor, audit
from tangential.monitor import diagnose, sinks
from tangential.monitor.sinks.rows import COLUMNS, FIELDS

SLOW, WEAK, NO_DECAY = "premature slowdown", "decay too weak", "no equilibrium without decay"
WRONG, UNEQUAL = "projected but not invariant", "layers rotate unequally"
FROZEN = "frozen normalisation"
HIDDEN = ("0.weight", "3.weight")  # followed by a BatchNorm


def net():
    torch.manual_seed(0)
    hidden = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU()]
    hidden += [nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(32, 4))


def trained(make, *, steps=300, every=5, audited=False, before=lambda model, optimizer, step: None):
    """What a monitor logs while a net learns noisy labels, with the optimizer `make(groups)`."""
    model, drawn, log = net(), torch.Generator().manual_seed(1), sinks.memory()
    truth = torch.randn(16, 4, generator=drawn)
    found = audit(model, [torch.randn(8, 16, generator=drawn) for _ in range(3)])
    optimizer = make(tangential.param_groups(model, found) if audited else model.parameters())
    with Monitor(model, optimizer, every, log, audit=found if audited else None):
        for step in range(steps):
            before(model, optimizer, step)
            x = torch.randn(32, 16, generator=drawn)
            y = (x @ truth + 2 * torch.randn(32, 4, generator=drawn)).argmax(1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return log


def decayed(groups):
    """Decay that reaches equilibrium within 300 steps."""
    return AdamW(groups, lr=0.01, weight_decay=1.0)


@cache
def slowed_run():
    """SGD with momentum and without decay: the slowdown of the paper."""
    return trained(lambda w: SGD(w, lr=0.1, momentum=0.9))


@cache
def sound_run():
    return trained(decayed)


def falling(lr, last=300):
    def before(model, optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / last)

    return before


def freeze(*names, at, until=math.inf):
    def before(model, optimizer, step):
        for name in names:
            model.get_submodule(name).train(not at <= step < until)

    return before


def kinds(log):
    return {verdict.kind: verdict for verdict in diagnose(log)}


def written(log, sink):
    """Give rows to a file sink, step by step."""
    for step in sorted({line["step"] for line in log}):
        lines = [line for line in log if line["step"] == step]
        sink(
            {f"{x['label']}/{k}": v for x in lines for k, v in x.items() if k in FIELDS[2:]},
            step,
        )
    sink.close()


def made_up_run():
    """A run of two weights and a frozen normalisation, as short as the criteria allow."""
    drawn, log = random.Random(0), []
    for step in range(0, 300, 25):
        for label in ("a.weight", "b.weight", "all", "early"):
            line = {name: drawn.uniform(0.01, 1) for name in COLUMNS[:15]}
            line |= {"gate_row": 1.0, "gate_weight": 0.0, "lr": 0.1, "norm": 1.0 + step}
            log.append({"step": step, "label": label, **line})
        log.append({"step": step, "label": "norm", "frozen": 1.0})
    return log
