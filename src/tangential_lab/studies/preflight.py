"""A trial run of the user's optimizers before a study starts, in a process of its own.

An optimizer may raise, exit or crash, and its `state_dict` may lack what its next step needs.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim import Optimizer

from tangential_lab.studies.children import start
from tangential_lab.training import (
    OptimizerEntry,
    ParamGroups,
    describe_error,
    untuned_point,
    user_optimizer,
)
from tangential_lab.training.checkpoint import generators, set_generators

STEPS, MORE_STEPS = 3, 22  # before and after its state is saved; some act every 10 or 20 steps
WIDEST = 256  # rows and columns of a weight: what matters here is its kind
ADVICE = "Correct it, or leave this optimizer out"


class PreflightRequest(NamedTuple):
    """What is tried, as it is sent to the other process."""

    sources: dict[str, str]  # of the optimizers, by name
    published: Mapping[str, dict[str, float]]  # the task's settings, by family
    groups: ParamGroups  # as a trial passes them, but with shapes in place of weights


class _Training(NamedTuple):
    """An optimizer and its weights."""

    optimizer: Optimizer
    weights: list[nn.Parameter]


def shapes(groups: ParamGroups) -> ParamGroups:
    """The groups with the shapes of their weights, each shape once."""
    return [g | {"params": list(dict.fromkeys(map(_shape, g["params"])))} for g in groups]


def _shape(weight: Tensor) -> tuple[int, ...]:
    return tuple(min(size, WIDEST) for size in weight.shape)


def unresumable(request: PreflightRequest) -> dict[str, str]:
    """Load, build and step every optimizer; return why some do not continue from their state.

    Raises:
        ValueError: one cannot be loaded, built or stepped, or it ends the process.
    """
    child, now = start(_try_all, request), "the trial run started"
    try:
        while True:
            child.wait()
            word, how = child.hear()
            if how is not None:
                raise ValueError(f"The process ended ({how}) when {now}. {ADVICE}")
            if word is None:
                continue
            kind, content = word
            if kind == "refused":
                raise ValueError(content)
            if kind == "done":
                return content
            now = content
    finally:
        child.end()


def _try_all(request: PreflightRequest, messages: Any) -> None:
    """The other process's life."""
    torch.set_num_threads(1)
    reasons = {}
    try:
        for name, source in request.sources.items():
            tell = lambda act, who=f"optimizer {name!r}": messages.send(("now", f"{who} {act}"))
            reasons[name] = _try(name, source, request, tell)
    except ValueError as error:
        messages.send(("refused", str(error)))
    else:
        messages.send(("done", {name: reason for name, reason in reasons.items() if reason}))


def _try(name: str, source: str, request: PreflightRequest, tell: Callable[[str], Any]) -> str:
    """Why the optimizer does not continue from its state, or "".

    Raises:
        ValueError: it cannot be loaded, built or stepped.
    """
    tell("was loaded")
    entry, file = user_optimizer(0, name, source), Path(source.rpartition(":")[0])
    point, drawn = untuned_point(entry, request.published), torch.Generator().manual_seed(0)
    values = [torch.randn(s, generator=drawn) for group in request.groups for s in group["params"]]
    try:
        tell("was built")
        training = _built(entry, point, request.groups, values)
        tell("made its first steps")
        _step(training, range(STEPS))
    except BaseException as error:  # exits, too
        settings = ", ".join(f"{key}={value:g}" for key, value in point.items())
        raise ValueError(
            f"optimizer {name!r} fails with a list of groups (dicts with 'params'), {settings}: "
            f"{describe_error(error, file)}. {ADVICE}"
        ) from error
    try:
        tell("continued from its state_dict")
        resumed = _resumed(training, entry, point, request.groups)
        return "" if resumed else "its next steps differ"
    except BaseException as error:  # exits, too
        return describe_error(error, file)


def _built(
    entry: OptimizerEntry, point: dict[str, float], groups: ParamGroups, values: list[Tensor]
) -> _Training:
    """The optimizer, built as a trial builds it."""
    set_seed(0)
    on = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    weights = [nn.Parameter(value.detach().clone().to(on or "cpu")) for value in values]
    left, built = iter(weights), []
    for group in groups:
        options = {name: x for name, x in group.items() if name not in ("lr", "params")}
        if "lr" in group and "lr" in point:  # else the trial's groups have none
            options["lr"] = group["lr"] * point["lr"]
        built.append(options | {"params": [next(left) for _ in group["params"]]})
    optimizer = entry.build(built, **point)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"returned {type(optimizer).__name__}, expected a torch.optim.Optimizer")
    if any("lr" not in group for group in optimizer.param_groups):
        raise TypeError("has a parameter group without 'lr', which the schedule sets")
    return _Training(optimizer, weights)


def _step(training: _Training, steps: range) -> None:
    for step in steps:
        drawn = torch.Generator().manual_seed(step)
        for weight in training.weights:
            weight.grad = torch.randn(weight.shape, generator=drawn).to(weight.device)
        training.optimizer.step()


def _resumed(
    training: _Training, entry: OptimizerEntry, point: dict[str, float], groups: ParamGroups
) -> bool:
    """Whether one that is resumed from its state, saved as a trial is, makes the same steps."""
    file, chance = io.BytesIO(), generators()
    torch.save({"optimizer": training.optimizer.state_dict(), "rng": chance}, file)
    other = _built(entry, point, groups, [weight.detach() for weight in training.weights])
    saved = torch.load(io.BytesIO(file.getvalue()), map_location="cpu", weights_only=True)
    other.optimizer.load_state_dict(saved["optimizer"])
    for one in (training, other):
        set_generators(saved["rng"])
        _step(one, range(STEPS, STEPS + MORE_STEPS))
    pairs = zip(training.weights, other.weights, strict=True)
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
