"""A test of the user's optimizers before a study starts, in a separate process.

An optimizer may raise, exit or crash, and its `state_dict` may lack values for its next step.
"""

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim import Optimizer

from tangential_lab import training
from tangential_lab.studies.workers.pool import start
from tangential_lab.training import OptimizerEntry, ParamGroups
from tangential_lab.training.checkpoint import generators, set_generators

STEPS, MORE_STEPS = 3, 22  # before and after a resume; some optimizers act every 20 steps
WIDEST = 256  # rows and columns of a test weight: only its number of dimensions matters
ADVICE = "Correct it, as docs/own_optimizer.md shows, or leave this optimizer out"


class PreflightRequest(NamedTuple):
    """The optimizers to test, in a form that can be sent to the other process."""

    sources: dict[str, str]  # by name
    published: Mapping[str, dict[str, float]]  # the task's settings, by family
    given: Mapping[str, dict[str, float]]  # the user's settings in their place
    groups: ParamGroups  # as in a trial, but with shapes instead of parameters


def shapes(groups: ParamGroups) -> ParamGroups:
    """The groups with shapes instead of parameters, each shape once."""
    small = []
    for group in groups:
        sizes = (tuple(min(size, WIDEST) for size in weight.shape) for weight in group["params"])
        small.append(group | {"params": list(dict.fromkeys(sizes))})
    return small


def unresumable(request: PreflightRequest) -> dict[str, str]:
    """Why optimizers cannot resume, by name; ValueError if one cannot be built and stepped."""
    child, last_act = start(_test_all, request), "the test started"
    try:
        while True:
            message, how = child.receive(block=True)
            if isinstance(message, ValueError):
                raise message
            if isinstance(message, dict):
                return message
            if how is not None:
                raise ValueError(f"The process ended ({how}) when {last_act}. {ADVICE}")
            last_act = message or last_act
    finally:
        child.end()


def _test_all(request: PreflightRequest, messages: Any) -> None:
    """The main function of the other process. It sends what it does, then the result or error."""
    torch.set_num_threads(1)
    try:
        sources = request.sources.items()
        reasons = {name: _test(name, source, request, messages.send) for name, source in sources}
        messages.send({name: reason for name, reason in reasons.items() if reason})
    except (OSError, ValueError) as error:
        messages.send(ValueError(str(error)))


def _test(name: str, source: str, request: PreflightRequest, tell: Callable[[str], Any]) -> str:
    """Why the optimizer cannot resume from its state; "" if it can."""
    who = f"optimizer {name!r}"
    tell(f"{who} was loaded")
    entry, file = training.user_optimizer(0, name, source), Path(source.rpartition(":")[0])
    point = training.untuned_point(name, entry, request.published, request.given)
    drawn = torch.Generator().manual_seed(0)
    values = [torch.randn(s, generator=drawn) for group in request.groups for s in group["params"]]
    try:
        tell(f"{who} was built")
        optimizer, weights = _built(entry, point, request.groups, values)
        tell(f"{who} made its first steps")
        _step(optimizer, weights, range(STEPS))
    except BaseException as error:  # SystemExit, too
        settings = ", ".join(f"{key}={value:g}" for key, value in point.items())
        raise ValueError(
            f"{who} fails with a list of groups (dicts with 'params'), {settings}: "
            f"{training.describe_error(error, file)}. {ADVICE}"
        ) from error
    try:
        tell(f"{who} continued from its state_dict")
        same = _resumes(optimizer, weights, partial(_built, entry, point, request.groups))
        return "" if same else "its next steps differ"
    except BaseException as error:  # SystemExit, too
        return training.describe_error(error, file)


def _built(
    entry: OptimizerEntry, point: dict[str, float], groups: ParamGroups, values: list[Tensor]
) -> tuple[Optimizer, list[nn.Parameter]]:
    """The optimizer, built as in a trial, and its weights."""
    set_seed(0)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    weights = [nn.Parameter(value.detach().clone().to(device or "cpu")) for value in values]
    remaining, built = iter(weights), []
    for group in groups:
        options = {name: x for name, x in group.items() if name not in ("lr", "params")}
        if "lr" in group and "lr" in point:  # otherwise a trial's groups have no lr
            options["lr"] = group["lr"] * point["lr"]
        built.append(options | {"params": [next(remaining) for _ in group["params"]]})
    optimizer = entry.build(built, **point)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"returned {type(optimizer).__name__}, expected a torch.optim.Optimizer")
    if any("lr" not in group for group in optimizer.param_groups):
        raise TypeError("has a parameter group without 'lr', which the schedule sets")
    return optimizer, weights


def _step(optimizer: Optimizer, weights: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        drawn = torch.Generator().manual_seed(step)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=drawn).to(weight.device)
        optimizer.step()


def _resumes(optimizer: Optimizer, weights: list[nn.Parameter], build: Callable[..., Any]) -> bool:
    """Whether an optimizer that is saved and resumed like a trial makes the same steps."""
    file, rng = io.BytesIO(), generators()
    torch.save({"optimizer": optimizer.state_dict(), "rng": rng}, file)
    other, others = build([weight.detach() for weight in weights])
    saved = torch.load(io.BytesIO(file.getvalue()), map_location="cpu", weights_only=True)
    other.load_state_dict(saved["optimizer"])
    for each, trained in ((optimizer, weights), (other, others)):
        set_generators(saved["rng"])
        _step(each, trained, range(STEPS, STEPS + MORE_STEPS))
    pairs = zip(weights, others, strict=True)
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
