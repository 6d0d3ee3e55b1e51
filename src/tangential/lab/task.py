"""A task, and the one loop that trains every trial."""

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tangential.lab.rivals import RIVALS

Split = tuple[Tensor, Tensor]
LOG_EVERY = 10
CURVES = ("step", "loss", "lr", "score", "norm", "effective_step")


class Task(NamedTuple):
    """An experiment: data, model, loss, metric, and which weights are scale-invariant."""

    name: str
    about: str
    data: str
    metric: str
    epochs: int
    batch_size: int
    splits: Callable[[], dict[str, Split]]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    invariant: Callable[[nn.Module], list[Tensor]]


# every phase, and the split that scores it: tuning, the tuned points, and the same lr undecayed
PHASES = {"tune": "tune", "report": "report", "mechanism": "report"}


class Spec(NamedTuple):
    """What a trial is; two trials with the same spec are the same trial."""

    task: str
    rival: str
    phase: str  # one of PHASES
    seed: int
    lr: float
    weight_decay: float
    epochs: int


def train(task: Task, spec: Spec) -> dict[str, Any]:
    """Train one trial to its end; return its record.

    The record holds the final `score` and `loss` on the split of its phase, `diverged`, seconds
    per step, and curves over steps: loss, learning rate, score, and of the scale-invariant
    weights the mean norm and the mean effective step |w+/|w+| - w/|w||.
    """
    splits = _splits(task.splits)
    torch.manual_seed(spec.seed)
    model = task.model()
    optimizer = RIVALS[spec.rival].build(model.parameters(), spec.lr, spec.weight_decay)
    (inputs, labels), held_out = splits["train"], splits[PHASES[spec.phase]]
    steps = spec.epochs * (len(inputs) // task.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = _batches(len(inputs), task.batch_size, spec.seed)
    curves: dict[str, list[float]] = {name: [] for name in CURVES}
    seconds = optimizer_seconds = 0.0
    for step in range(steps):
        batch = next(order)
        logged = step % LOG_EVERY == 0 or step == steps - 1
        before = [w.detach().clone() for w in task.invariant(model)] if logged else []
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = task.loss(model(inputs[batch]), labels[batch])
        loss.backward()
        ready = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        seconds, optimizer_seconds = seconds + end - start, optimizer_seconds + end - ready
        if logged:
            norm, turn = _motion(before, task.invariant(model))
            score, _ = evaluate(task, model, held_out)
            values = (step, loss.item(), optimizer.param_groups[0]["lr"], score, norm, turn)
            for name, value in zip(CURVES, values, strict=True):
                curves[name].append(value)
        schedule.step()
    score, loss = evaluate(task, model, held_out)
    return {
        "score": score,
        "loss": loss,
        "diverged": not math.isfinite(loss),
        "norm": curves["norm"][-1],
        "effective_step": sum(curves["effective_step"]) / len(curves["effective_step"]),
        "step_s": seconds / steps,
        "optimizer_s": optimizer_seconds / steps,
        "curves": curves,
    }


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, split: Split) -> tuple[float, float]:
    """Score and loss of `model` on a split, in evaluation mode."""
    inputs, labels = split
    model.eval()
    outputs = model(inputs)
    model.train()
    return task.score(outputs, labels), task.loss(outputs, labels).item()


def _batches(size: int, batch_size: int, seed: int):
    """Batches of indices without end; the same seed gives every rival the same ones."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        shuffled = torch.randperm(size, generator=generator)
        yield from shuffled.split(batch_size)[: size // batch_size]


def _motion(before: list[Tensor], after: list[Tensor]) -> tuple[float, float]:
    """Mean over weights of the norm, and of the distance their directions moved."""
    old, new = ([w.detach().double() for w in weights] for weights in (before, after))
    norms = [w.norm().item() for w in new]
    turns = [(b / b.norm() - a / a.norm()).norm().item() for a, b in zip(old, new, strict=True)]
    return sum(norms) / len(norms), sum(turns) / len(turns)


@lru_cache(maxsize=4)
def _splits(load: Callable[[], dict[str, Split]]) -> dict[str, Split]:
    return load()
