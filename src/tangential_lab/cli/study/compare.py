"""The command `tangential compare`."""

import os
import warnings
from datetime import timedelta
from typing import Annotated, Any

import torch
from cyclopts import Parameter
from rich.console import Console

from tangential.backends import native
from tangential_lab import experiments
from tangential_lab.cli.parameters import Count, CountOrZero, Many
from tangential_lab.cli.study.location import (
    DEFAULT_FILES,
    DEFAULT_LOCATION,
    Location,
    TrialFiles,
    checked_name,
    study_errors,
)
from tangential_lab.cli.study.options import (
    check_sweep,
    default_name,
    parse_baselines,
    parse_sources,
)
from tangential_lab.cli.study.progress import Display, interruptible
from tangential_lab.cli.study.report import conclude
from tangential_lab.cli.study.settings import (
    DEFAULT_TASK_OPTIONS,
    DEFAULT_TRIAL_SETTINGS,
    NOTHING_GIVEN,
    GivenSettings,
    TaskOptions,
    TrialSettings,
)
from tangential_lab.errors import one_line
from tangential_lab.names import one_of, unknown_name
from tangential_lab.reports import caveats, number
from tangential_lab.studies import (
    Estimate,
    Plan,
    Store,
    StudyRequest,
    WorkerOptions,
    make_plan,
    rehearse,
    run_study,
    run_worker,
)
from tangential_lab.terminal import say
from tangential_lab.training import DEFAULT_OPTIMIZERS, OPTIMIZERS, usable_cores


def _check_task(_: Any, name: str) -> None:
    if not experiments.is_user_task(name) and name not in experiments.NAMES:
        raise ValueError(f"{unknown_name(name, experiments.NAMES, 'task')} {experiments.OWN_TASK}")


KnownTask = Annotated[str, Parameter(validator=_check_task)]
KnownOptimizer = Annotated[str, Parameter(validator=one_of(OPTIMIZERS, "optimizer"))]


def compare(
    task: KnownTask,
    /,
    *,
    task_options: TaskOptions = DEFAULT_TASK_OPTIONS,
    optimizers: Annotated[tuple[KnownOptimizer, ...], Many] = DEFAULT_OPTIMIZERS,
    optimizer: Annotated[tuple[str, ...], Many] = (),
    baseline: Annotated[tuple[str, ...], Many] = (),
    trials: CountOrZero = 16,
    given: GivenSettings = NOTHING_GIVEN,
    seeds: Count = 5,
    sweep: bool = False,
    undecayed: bool = False,
    trial_settings: TrialSettings = DEFAULT_TRIAL_SETTINGS,
    study: str | None = None,
    location: Location = DEFAULT_LOCATION,
    files: TrialFiles = DEFAULT_FILES,
) -> None:
    """Tune every optimizer equally, run each at its best settings on the same seeds, and report.

    Ctrl-C stops the study. The same command continues it, even after a power failure.
    Under torchrun or accelerate launch, the processes work on every trial together.

    Args:
        task: What to train: see `tangential list`; or your own, FILE.py:FUNCTION, a function that
            returns a tangential_lab.training.Task. FILE.py is run, here and by workers.
        task_options: Options of the task.
        optimizers: Optimizers to compare.
        optimizer: Your own optimizers: name=module:factory or name=FILE.py:FACTORY, where
            factory(params, lr, weight_decay) returns an optimizer. `params` are groups, dicts
            with "params", as torch's optimizers take them. FILE.py is run, here and by workers,
            and each optimizer is tried once before the study starts.
        baseline: What an optimizer is compared with, as optimizer=baseline, in place of its usual
            baseline; several for one optimizer are several comparisons.
        trials: Points of the search per optimizer; each is trained on two tuning seeds. Fewer than
            16 are a grid around the published learning rate, crossed with what weight decay does
            over the run. From 16 on they are quasi-random. With 0, every optimizer runs at the
            published settings of the task, or at those of --lr and --weight-decay.
        given: Settings in place of published ones, with --trials 0.
        seeds: Number of test seeds, the same for all optimizers; 8 or more allow a verdict.
        sweep: Run the whole grid on these seeds instead, and show curves: nothing is chosen, so
            there are no test seeds. Scores are those of the validation split.
        undecayed: Run every optimizer once more on every seed, at its baseline's lr and without
            weight decay.
        trial_settings: How long trials are, and how they are run.
        study: Name of the study; by default the task and its options.
        location: Where studies are stored.
        files: What a trial reads and saves.
    """
    with study_errors():
        sources = parse_sources(optimizer)
        request = StudyRequest(
            task=task,
            options=task_options.values(task),
            optimizers=tuple(dict.fromkeys(optimizers)),
            user_optimizers=sources,
            trials=trials,
            seeds=seeds,
            epochs=trial_settings.epochs,
            undecayed=undecayed,
            precision=trial_settings.precision,
            threads=trial_settings.threads,
            sharded=trial_settings.sharded,
            sweep=sweep,
            given=given.points(),
            baselines=parse_baselines(baseline, [*optimizers, *sources]),
        )
        check_sweep(request)
        name = default_name(task, request.options) if study is None else checked_name(study)
        run_request(request, name, trial_settings.workers, location, files)


def run_request(
    request: StudyRequest, study: str, workers: int | None, location: Location, files: TrialFiles
) -> None:
    """Plan a study, run it, or continue it, and report; see `study_errors` for what it raises."""
    console = Console()
    worker = WorkerOptions(files.data, location.out / study, files.checkpoint_s)
    if reason := native.reason():
        say(console, f"Note: {reason}; until then trials run on foreach.")
    if workers is None:
        workers = torch.cuda.device_count() or usable_cores()
    _run(request, location, worker, workers, console)


def _run(
    request: StudyRequest, location: Location, worker: WorkerOptions, workers: int, console: Console
) -> None:
    is_first, together = os.environ.get("RANK", "0") == "0", "WORLD_SIZE" in os.environ
    plan = _accepted_plan(request, location, worker, workers, console) if is_first else None
    store = _begun(plan, location, worker.folder.name, console, together=together)
    with store.undamaged():
        if together:
            _work_together(store, worker, console, is_first=is_first)
        else:
            plan = store.plan()
            with Display(plan, console) as display, interruptible(display.stopping) as stop:
                for snapshot in run_study(store, plan, worker, workers, stop, display.say):
                    display.show(*snapshot)
        if is_first:
            conclude(store, worker.folder, console)


def _accepted_plan(
    request: StudyRequest, location: Location, worker: WorkerOptions, workers: int, console: Console
) -> Plan:
    """Plan the study, try every optimizer for a few steps, and say how long it may take.

    Nothing is created, so that a study that is refused leaves nothing.
    """
    location.check(worker.folder.name)
    say(console, "Preparing: data ...")
    with warnings.catch_warnings(record=True) as caught:
        task = experiments.make(request.task, worker.data, request.options)
        say(console, "Preparing: audit of the model ...")
        plan = make_plan(request, task)
        say(console, "Preparing: first steps of every optimizer ...")
        estimate = rehearse(plan, task)
    notes = [f"{one_line(warning.message).removesuffix('.')}." for warning in caught]
    for note in [*notes, *(caveats(plan) if plan.analysis else [])]:
        say(console, f"Note: {note}")
    say(console, _expected(estimate, workers))
    return plan


def _begun(
    plan: Plan | None, location: Location, name: str, console: Console, *, together: bool
) -> Store:
    """The store of the study, which the process that has a plan begins."""
    store = location.create(name) if plan else None
    if plan and store:
        with store.undamaged():
            lost = store.begin(plan)
        if lost:
            say(console, f"Note: {lost}.")
    if together:
        from tangential_lab.training.distributed import this_process

        this_process().wait_for_everyone()  # until the first process has begun the study
    return store or location.create(name)


def _expected(estimate: Estimate, workers: int) -> str:
    """How long the study will take."""
    if not workers:
        return "Waiting for workers on other machines."
    left = timedelta(seconds=round(3600 * estimate.core_hours / workers))
    by = f"{workers} workers" if workers > 1 else "one worker"
    return (
        f"{estimate.trials} trials of about {number(estimate.trial_s)} s each, without "
        f"evaluations: about {left} with {by}, {number(estimate.core_hours)} core-hours in all."
    )


def _work_together(
    store: Store, worker: WorkerOptions, console: Console, *, is_first: bool
) -> None:
    from tangential_lab.training.distributed import leave_process_group

    with Display(store.plan(), console) as display, interruptible(display.stopping) as stop:
        arguments = (store, worker, stop.is_set, display.say)
        if is_first:
            run_worker(*arguments, display.show, display.show_share)
        else:
            run_worker(*arguments)
        leave_process_group()
        if stop.is_set():
            raise KeyboardInterrupt
