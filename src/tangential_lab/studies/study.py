"""A study on this machine: its plan from a user's request, and its workers."""

import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from threading import Event
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from tangential import audit
from tangential_lab import training
from tangential_lab.studies import provenance, schedule
from tangential_lab.studies.plan import LEAST_DECAY, Plan, PlannedOptimizer
from tangential_lab.studies.request import StudyRequest, check_leaders, check_request
from tangential_lab.studies.storage.database import database_errors
from tangential_lab.studies.storage.store import Store
from tangential_lab.studies.workers.pool import StudyFailedError, WorkerPool
from tangential_lab.studies.workers.worker import WorkerOptions
from tangential_lab.training import (
    OPTIMIZERS,
    OptimizerEntry,
    Point,
    ProcessShare,
    Records,
    Task,
)

AUDIT_BATCHES, AUDIT_BATCH_SIZE = 3, 16
POLL_S = 0.5  # seconds
TUNING_SEEDS = 2  # of a study that is not a sweep


def make_plan(request: StudyRequest, task: Task) -> Plan:
    """The plan for a request. It audits the task's model and tests the user's optimizers.

    Raises:
        ValueError: a user's optimizer cannot be used or has a built-in one's name, a given setting
            cannot be used, two optimizers are compared twice, a part of the model would never be
            trained, or the task has no data for a search.
    """
    check_request(request, task)
    invariant = scale_invariant_weights(task)
    check_leaders(request, task, invariant)
    epochs = request.epochs or task.epochs
    optimizers = _planned_optimizers(request, task, frozenset(invariant))
    decays = request.trials or any(o.published.get("weight_decay") for o in optimizers.values())
    plan = Plan(
        task=request.task,
        options=request.options,
        about=task.about,
        data=list(task.data),
        metric=task.metric,
        optimizers=optimizers,
        trials=request.trials,
        tuning_seeds=request.seeds if request.sweep else TUNING_SEEDS,
        sweep=request.sweep,
        seeds=0 if request.sweep else request.seeds,
        undecayed=request.undecayed and not request.sweep and bool(decays),
        epochs=epochs,
        batch_size=task.batch_size,
        steps=max(1, round(epochs * training.steps_per_epoch(task))),
        invariant=invariant,
        settings=_settings(request),
        given=bool(request.given),
        analysis=request.analysis,
    )
    plan = plan._replace(chosen_baselines=_chosen_baselines(request, task, plan))
    _warn_of_negligible_decay(plan)
    return plan


def _settings(request: StudyRequest) -> dict[str, Any]:
    return {
        "precision": request.precision,
        "threads": request.threads,
        "sharded": request.sharded,
        "versions": provenance.versions(),
        "source": provenance.source(request.task),
    }


def _warn_of_negligible_decay(plan: Plan) -> None:
    """Warn about optimizers that cannot differ from the others in this plan."""
    for name in plan.optimizers:
        points = [spec.values for spec in schedule.trials(plan, {}) if spec.optimizer == name]
        if not any(plan.can_differ(name, point) for point in points):
            warnings.warn(
                f"{name} differs from other optimizers only by its weight decay, which does almost "
                f"nothing in this study (lr * weight_decay * steps < {LEAST_DECAY:g} at all "
                "points): it will not be compared",
                stacklevel=3,
            )


def _chosen_baselines(request: StudyRequest, task: Task, plan: Plan) -> dict[str, list[str]]:
    """The baselines that the task or the user gives the optimizers of this plan."""
    baselines = {**task.baselines, **request.baselines}
    chosen = {name: list(some) for name, some in baselines.items() if name in plan.optimizers}
    pairs = plan._replace(chosen_baselines=chosen).comparisons
    for optimizer, baseline in pairs:
        if (baseline, optimizer) in pairs:
            raise ValueError(
                f"{optimizer}={baseline} and {baseline}={optimizer} are the same comparison: leave "
                f"one of them out of --baseline, or give {baseline} a baseline other than its "
                f"usual one, {optimizer}"
            )
    return chosen


def _planned_optimizers(
    request: StudyRequest, task: Task, invariant: frozenset[str]
) -> dict[str, PlannedOptimizer]:
    """The optimizers of a request, ours first."""
    sources = request.user_optimizers
    unresumable = _test_user_optimizers(request, task, invariant) if sources else {}
    users = {n: training.user_optimizer(i, n, sources[n]) for i, n in enumerate(sources)}
    for name, entry in users.items():
        others = [*OPTIMIZERS, *(other for other in users if other != name)]
        for baseline in entry.baselines:
            if baseline not in others:
                raise ValueError(
                    f"{name}.baseline is {baseline!r}, expected another optimizer: "
                    f"{', '.join(others)}"
                )
    entries = {name: OPTIMIZERS[name] for name in request.optimizers} | users
    return {
        name: planned_optimizer(task, name, entry, entries, request.given)._replace(
            source=sources.get(name, ""), resumes=name not in unresumable
        )
        for name, entry in entries.items()
    }


def planned_optimizer(
    task: Task,
    name: str,
    entry: OptimizerEntry,
    names: Collection[str] = (),
    given: Mapping[str, Point] = MappingProxyType({}),
) -> PlannedOptimizer:
    """The plan's entry for a built-in optimizer; `names` are all optimizers of the study."""
    return PlannedOptimizer(
        source="",
        about=entry.about,
        baseline=entry.baseline(names),
        colour=entry.colour,
        space=entry.space,
        published=training.untuned_point(name, entry, task.published, given),
        decay_multiplier=entry.decay_multiplier * task.handover.after,
        differs_by_decay=entry.differs_by_decay,
        leader=entry.leader,
    )


def _test_user_optimizers(
    request: StudyRequest, task: Task, invariant: frozenset[str]
) -> dict[str, str]:
    """Test the user's optimizers on groups like a trial's; warn about those that cannot resume."""
    from tangential_lab.studies.workers import preflight

    with torch.random.fork_rng():
        model = task.model()
    groups = preflight.shapes(training.split_groups(task, model, invariant, 1.0))
    reasons = preflight.unresumable(
        preflight.PreflightRequest(
            request.user_optimizers, dict(task.published), dict(request.given), groups
        )
    )
    for name, reason in reasons.items():
        warnings.warn(
            f"optimizer {name!r} does not continue from its state_dict ({reason}): its trials "
            "start again from the beginning if they are interrupted. Its steps may use only what "
            "is in state_dict(), and the global generators of torch, NumPy and random",
            stacklevel=2,
        )
    return reasons


def scale_invariant_weights(task: Task) -> list[str]:
    """Names of the weights that the audit proves scale-invariant, by row or as a whole."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.model()
        share = ProcessShare(0, max(1, task.batch_size // AUDIT_BATCH_SIZE))  # small batches
        batches = training.training_batches(task._replace(loader_workers=0), 0, 0, share)
        few = list(islice(batches, AUDIT_BATCHES))
        try:
            result = audit(model, few, loss=task.audit_loss or task.loss)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            warnings.warn(f"{task.name}'s weights cannot be audited: {error}", stacklevel=2)
            return []
    return [*result.names("row"), *result.names("weight")]


class Snapshot(NamedTuple):
    """How far a study is."""

    records: Records  # of the finished trials
    shares: list[float]  # of their steps that the running trials on this machine have done


def run_study(
    store: Store,
    plan: Plan,
    options: WorkerOptions,
    workers: int,
    stop: Event,
    notify: Callable[[str], Any],
) -> Iterator[Snapshot]:
    """Run the plan with workers on this machine; yield how far it is, now and every `POLL_S`.

    A worker that dies is replaced, and another worker takes its trial. With 0 workers it waits for
    workers on other machines.

    Raises:
        KeyboardInterrupt: `stop` was set before the last trial.
        StudyFailedError: a trial raised an error, workers keep dying, or another command has
            changed the plan of the study.
    """
    store.stop = stop.is_set
    records = store.records(plan)
    yield Snapshot(records, [])
    pool = WorkerPool(store, options, notify)
    try:
        pool.start(workers if schedule.missing(plan, records) else 0)
        while not stop.is_set() and schedule.missing(plan, records):
            time.sleep(POLL_S)
            ended = pool.ended()  # before the records: workers may end after the last trial
            if store.retry(store.plan).text() != plan.text():
                raise StudyFailedError("another command has changed the plan of this study")
            records = store.retry(lambda: store.records(plan))
            yield Snapshot(records, pool.shares())
            if schedule.missing(plan, records):
                pool.replace(ended, workers)
    except KeyboardInterrupt:
        pool.kill()
        raise
    except database_errors() as error:
        if stop.is_set():  # the database is unavailable, and the user does not wait
            raise KeyboardInterrupt from error
        raise
    finally:
        pool.stop_workers()
    if schedule.missing(plan, records):
        raise KeyboardInterrupt
