"""What a user asks of a study, and whether the study is possible."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tangential_lab.training import NO_HANDOVER, OPTIMIZERS, Point, Task, check_given


class StudyRequest(NamedTuple):
    """What the user wants to compare."""

    task: str
    options: dict[str, Any]  # of the task
    optimizers: tuple[str, ...]
    user_optimizers: dict[str, str]  # name -> source
    trials: int
    seeds: int
    epochs: float | None
    undecayed: bool
    precision: str
    threads: int
    sharded: bool
    sweep: bool = False  # a search alone, on `seeds` seeds
    given: Mapping[str, Point] = MappingProxyType({})  # replace published settings
    baselines: Mapping[str, list[str]] = MappingProxyType(
        {}
    )  # replace the task's and the optimizer's
    analysis: bool = False  # curves are shown first; the score is measured after every epoch


def check_request(request: StudyRequest, task: Task) -> None:
    """Raise a ValueError if the task or an optimizer cannot do what is requested."""
    if not request.optimizers and not request.user_optimizers:
        raise ValueError("optimizers must name at least one optimizer, got none")
    if request.trials and "validation" not in task.splits:
        raise ValueError(
            f"trials must be 0 with {task.name}, because it has no validation split, got "
            f"{request.trials}: pass --trials 0, or leave out held_out=no"
        )
    if request.trials and request.given:
        raise ValueError(
            "lr and weight_decay replace published settings, which a search does not use: "
            f"pass --trials 0 with them, got {request.trials}"
        )
    if request.epochs is not None and request.epochs <= task.frozen_epochs:
        raise ValueError(
            f"epochs must be more than {task.frozen_epochs:g} with {task.name}, because a part of "
            f"its weights is frozen until then, got {request.epochs:g}"
        )
    for name in request.user_optimizers:
        if name in OPTIMIZERS:
            raise ValueError(f"optimizer {name!r} is the laboratory's own: choose another name")
    ours = [name for name in request.optimizers if OPTIMIZERS[name].leader is None]
    check_given(request.given, [*ours, *request.user_optimizers])


def check_leaders(request: StudyRequest, task: Task, invariant: list[str]) -> None:
    """Raise a ValueError if an optimizer that takes the angles of another one cannot do so."""
    for name in request.optimizers:
        leader = OPTIMIZERS[name].leader
        if leader is None:
            continue
        needs = {
            f"{leader} among the optimizers": leader in request.optimizers,
            "a study with test seeds: leave out --sweep": not request.sweep,
            "weights on one device: leave out --sharded": not request.sharded,
            "steps that are never skipped: use --precision no or bf16": request.precision != "fp16",
            "a task without a handover to another optimizer": task.handover is NO_HANDOVER,
            "a model with scale-invariant weights, but the audit proves none": bool(invariant),
        }
        for need, met in needs.items():
            if not met:
                raise ValueError(f"{name} takes the angles of {leader}, so it needs {need}")
