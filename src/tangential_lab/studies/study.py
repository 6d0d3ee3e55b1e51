"""A study: its plan, its workers on this machine, and what they are told when something happens."""

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Event
from typing import Any, NamedTuple

from tangential_lab.studies import provenance
from tangential_lab.studies.plan import Plan, PlannedOptimizer
from tangential_lab.studies.pool import StudyFailedError, WorkerPool
from tangential_lab.studies.store import Store
from tangential_lab.studies.worker import WorkerOptions
from tangential_lab.training import (
    OPTIMIZERS,
    OptimizerEntry,
    Records,
    Task,
    space_of,
    split_groups,
    untuned_point,
    user_optimizer,
)

AUDITED = 3, 16  # batches, and samples of each
POLL_S = 0.5


class StudyRequest(NamedTuple):
    """What the user wants compared."""

    task: str
    options: dict[str, Any]
    optimizers: tuple[str, ...]
    user_optimizers: dict[str, str]  # the user's optimizers: name -> source
    trials: int
    seeds: int
    epochs: float | None
    undecayed: bool
    precision: str
    threads: int
    sharded: bool


def make_plan(request: StudyRequest, task: Task) -> Plan:
    """The plan for this request; audits the task's model.

    Raises:
        ValueError: a user's optimizer cannot be imported or has the name of one of ours, or a part
            of the model would never be trained.
    """
    if request.epochs is not None and request.epochs <= task.frozen_epochs:
        raise ValueError(
            f"epochs is {request.epochs:g}, allowed with {task.name} are more than "
            f"{task.frozen_epochs:g}: so long a part of its weights is held"
        )
    for name in request.user_optimizers:
        if name in OPTIMIZERS:
            raise ValueError(f"optimizer {name!r} is the laboratory's own: choose another name")
    scale_invariant = scale_invariant_weights(task)
    restarted = _tried(request, task, frozenset(scale_invariant)) if request.user_optimizers else {}
    own = {
        name: user_optimizer(i, name, source)
        for i, (name, source) in enumerate(request.user_optimizers.items())
    }
    for name, entry in own.items():
        if entry.baseline is not None and (
            entry.baseline == name or entry.baseline not in OPTIMIZERS | own
        ):
            raise ValueError(
                f"{name}.baseline is {entry.baseline!r}, expected another optimizer: "
                f"{', '.join([*OPTIMIZERS, *(n for n in own if n != name)])}"
            )
    contenders = {
        name: planned_optimizer(
            task, entry, request.user_optimizers.get(name, ""), resumes=name not in restarted
        )
        for name, entry in ({n: OPTIMIZERS[n] for n in request.optimizers} | own).items()
    }
    return Plan(
        task=request.task,
        options=request.options,
        about=task.about,
        data=list(task.data),
        metric=task.metric,
        optimizers=contenders,
        trials=request.trials,
        seeds=request.seeds,
        undecayed=request.undecayed,
        epochs=request.epochs or task.epochs,
        batch_size=task.batch_size,
        invariant=scale_invariant,
        settings={
            "precision": request.precision,
            "threads": request.threads,
            "sharded": request.sharded,
            "versions": provenance.versions(),
            "source": provenance.source(request.task),
        },
    )


def planned_optimizer(
    task: Task, entry: OptimizerEntry, source: str, *, resumes: bool = True
) -> PlannedOptimizer:
    """What the plan knows of an optimizer."""
    space, point = space_of(entry, task.published), untuned_point(entry, task.published)
    about, baseline, colour = entry.about, entry.baseline, entry.colour
    return PlannedOptimizer(source, about, baseline, colour, space, point, resumes)


def _tried(request: StudyRequest, task: Task, scale_invariant: frozenset[str]) -> dict[str, str]:
    """Try the user's optimizers on such groups as the trials have; warn of those not resumable.

    Raises:
        ValueError: one cannot be loaded, built or stepped.
    """
    import torch

    from tangential_lab.studies import preflight

    with torch.random.fork_rng():
        model = task.model()
    groups = preflight.shapes(split_groups(task.groups(model), model, scale_invariant, 1.0))
    found = preflight.unresumable(
        preflight.PreflightRequest(request.user_optimizers, dict(task.published), groups)
    )
    for name, reason in found.items():
        warnings.warn(
            f"optimizer {name!r} does not continue from its state_dict ({reason}): its trials "
            "start again from the beginning if they are interrupted. Its steps may use only what "
            "is in state_dict(), and the global generators of torch, NumPy and random",
            stacklevel=2,
        )
    return found


def scale_invariant_weights(task: Task) -> list[str]:
    """Names of the weights that the audit proves scale-invariant, by row or as a whole."""
    import torch

    from tangential import audit
    from tangential_lab.training import ProcessShare, training_batches

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.model()
        count, size = AUDITED
        few = ProcessShare(0, max(1, task.batch_size // size))
        batches = list(islice(training_batches(task._replace(loader_workers=0), 0, 0, few), count))
        try:
            found = audit(model, batches, loss=task.audit_loss or task.loss)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            warnings.warn(f"{task.name}'s weights cannot be audited: {error}", stacklevel=2)
            return []
    return [*found.names("row"), *found.names("weight")]


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets; it calls `stopping`, a second is as usual.

    As an exception the first could fall into the saving of a trial.
    """
    stop, usual = Event(), {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def first(*_: Any) -> None:
        stop.set()
        stopping()
        for number, handler in usual.items():
            signal.signal(number, handler)

    for number in usual:
        signal.signal(number, first)
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def run_study(
    store: Store,
    plan: Plan,
    place: WorkerOptions,
    workers: int,
    stop: Event,
    say: Callable[[str], Any],
) -> Iterator[Records]:
    """Let workers on this machine run the plan; yield its records, and whenever there are new ones.

    A worker that dies is replaced, and another takes its trial. Where `workers` is 0, others
    elsewhere are waited for.

    Raises:
        KeyboardInterrupt: `stop` was set before the last trial.
        Ended: a trial raised, workers die again and again, or another command has begun the
            study with another plan.
    """
    records = store.records(plan)
    yield records
    crew = WorkerPool(store, place, say)
    try:
        crew.hire(workers if len(records) < plan.size else 0)
        while not stop.is_set() and len(records) < plan.size:
            time.sleep(POLL_S)
            left = crew.left()  # first: who leaves after the last trial is not missed
            if store.patiently(store.plan).text() != plan.text():
                raise StudyFailedError("the study has been given another plan, by another command")
            new = store.patiently(lambda: store.records(plan))
            if len(new) > len(records):
                records = new
                yield records
            if len(records) < plan.size:
                crew.replace(left, workers)
    except KeyboardInterrupt:
        crew.kill()
        raise
    finally:
        crew.dismiss()
    if len(records) < plan.size:
        raise KeyboardInterrupt
