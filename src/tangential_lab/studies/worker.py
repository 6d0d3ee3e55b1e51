"""A worker: takes trials of a study, one after another, until none is left."""

import json
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import torch

from tangential.files import write_atomically
from tangential_lab import experiments as tasks
from tangential_lab.studies import provenance
from tangential_lab.studies.database import database_errors
from tangential_lab.studies.plan import Plan
from tangential_lab.studies.store import BEAT_S, ClaimedTrial, ClaimLostError, Store
from tangential_lab.studies.stored import Settings, parse_record, typed
from tangential_lab.training import (
    OPTIMIZERS,
    OptimizerEntry,
    Record,
    Records,
    Spec,
    Task,
    describe_error,
    user_optimizer,
)

POLL_S = 1.0  # while others run what is left


class TrialFailedError(Exception):
    """A trial whose task or optimizer raised, or called exit."""

    @property
    def where(self) -> str:
        """Where that was, as Python's tracebacks say it; the message is this exception's own."""
        frames = traceback.format_tb(self.__cause__.__traceback__ if self.__cause__ else None)
        return "".join(["Traceback (most recent call last):\n", *frames]).rstrip()


class WorkerOptions(NamedTuple):
    """Where a worker finds and leaves things."""

    data: Path | None
    folder: Path  # of the study: checkpoints of trials under way
    checkpoint_s: float


def run_worker(
    store: Store,
    place: WorkerOptions,
    stop: Callable[[], bool],
    say: Callable[[str], Any],
    see: Callable[[Records], Any] = lambda records: None,
) -> None:
    """Run trials until the study is done, or `stop`.

    Under torchrun or `accelerate launch` all processes work on one trial together.

    Args:
        store: With the study.
        place: Where this worker finds and leaves things.
        stop: Asked between steps.
        say: Is told what happens.
        see: Is shown the finished trials whenever a new one is looked for.

    Raises:
        ValueError: the study's data, or the packages that it was begun with, are not here.
        Failed: a task or an optimizer raised something else.
    """
    from tangential_lab.training.distributed import this_process, value_of_first_process

    leads = this_process().is_main_process
    plan = store.patiently(store.plan)
    typed(Settings, plan.settings, "plan.settings")
    torch.set_num_threads(plan.settings["threads"])
    bench = _Bench(store, place, stop, say, see)
    while True:
        task = bench.ready(plan)
        claim = value_of_first_process(bench.next(plan) if leads else None)
        if claim == "done":
            return
        if claim is None:
            time.sleep(POLL_S)
        else:
            bench.run(plan, task, claim, leads=leads)
        plan = value_of_first_process(store.patiently(store.plan) if leads else None)


class _Bench:
    """What a worker has at hand: its task, as long as the plan is the same."""

    def __init__(
        self,
        store: Store,
        place: WorkerOptions,
        stop: Callable[[], bool],
        say: Callable[[str], Any],
        see: Callable[[Records], Any],
    ) -> None:
        self.store, self.place, self.stop, self.say, self.see = store, place, stop, say, see
        self.made: tuple[Any, Task] | None = None

    def ready(self, plan: Plan) -> Task:
        """The plan's task, with its data."""
        wanted = (plan.task, plan.options)
        if self.made is None or self.made[0] != wanted:
            self.made = wanted, task_for(plan, self.place.data)
        return self.made[1]

    def next(self, plan: Plan) -> ClaimedTrial | str | None:
        """A trial to run, "done" where none is left, None where others run the last ones."""
        if self.stop():
            return "done"
        records = self.store.patiently(lambda: self.store.records(plan))
        self.see(records)
        missing = [spec for spec in plan.next_trials(records) if spec not in records]
        if not missing:
            return "done"
        return self.store.patiently(lambda: self.store.claim(plan, missing))

    def run(self, plan: Plan, task: Task, claim: ClaimedTrial, *, leads: bool) -> None:
        """Train a trial, or take it from where it was left, and keep its record."""
        folder = self.place.folder / "checkpoints" / claim.key
        lost, over = Event(), Event()
        if leads:
            Thread(target=self._beat, args=(claim, lost, over), daemon=True).start()
        try:
            record = self._trained(plan, task, claim, folder, lost)
            if leads and record is not None:
                self.store.patiently(lambda: self.store.finish(claim, record))
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # others have theirs there
                    folder.parent.rmdir()
        except ClaimLostError:
            self.say("A trial was given to another worker, this one having been silent too long.")
        finally:
            over.set()

    def _trained(
        self, plan: Plan, task: Task, claim: ClaimedTrial, folder: Path, lost: Event
    ) -> Record | None:
        from tangential_lab.training.distributed import value_of_first_process
        from tangential_lab.training.trial import Trial, TrialOptions, TrialStopped

        entry = entry_for(plan, claim.spec)
        if (record := value_of_first_process(_finished(folder))) is not None:
            return record
        reports = claim.spec.phase != "tune"
        run = TrialOptions(
            plan.epochs,
            frozenset(plan.invariant),
            plan.settings["precision"],
            folder if plan.optimizers[claim.spec.optimizer].resumes else None,
            sharded=plan.settings["sharded"],
            checkpoint_s=self.place.checkpoint_s,
            stop=lambda: lost.is_set() or self.stop(),
            evaluations=task.evaluations if reports else 0,
            layers=reports,
        )
        try:
            trial = Trial(task, entry, claim.spec, run)
            record = trial.train() | {"provenance": _provenance(plan, claim.spec, trial)}
        except TrialStopped:
            if not lost.is_set():
                self.store.patiently(lambda: self.store.give_back(claim))
            return None
        except (tasks.DataError, OSError, *database_errors()):
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and _ctrl_c_raises():
                raise  # it may be the user's
            where = f"{claim.spec.optimizer}, {claim.spec.phase} trial of seed {claim.spec.seed}"
            raise TrialFailedError(f"{where}: {describe_error(error)}") from error
        if trial.accelerator.is_main_process:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with write_atomically(folder / "finished.json") as file:
                    json.dump(record, file)
            except OSError as error:  # the database may have room
                self.say(f"A finished trial is not kept in {folder} beside the database: {error}")
        return record

    def _beat(self, claim: ClaimedTrial, lost: Event, over: Event) -> None:
        while not over.wait(BEAT_S):
            try:
                self.store.beat(claim)
            except ClaimLostError:
                lost.set()
            except database_errors():
                continue  # the database may come back


def _ctrl_c_raises() -> bool:
    """Whether Ctrl-C raises KeyboardInterrupt; else only a task or an optimizer can raise it."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _finished(folder: Path) -> Record | None:
    """The record of a trial whose worker died before the database had it."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        return parse_record((folder / "finished.json").read_text())
    return None


def entry_for(plan: Plan, spec: Spec) -> OptimizerEntry:
    """The entry that a spec names.

    Raises:
        ValueError: it is the user's own, and not to be had here, or has changed.
    """
    known = plan.optimizers[spec.optimizer]
    if not known.source:
        return OPTIMIZERS[spec.optimizer]
    return user_optimizer(0, spec.optimizer, known.source, known.about)


def task_for(plan: Plan, data: Path | None) -> Task:
    """The plan's task, if this machine can run its trials.

    Raises:
        ValueError: other data, packages or code than the study was begun with.
    """
    task = tasks.make(plan.task, data, plan.options)
    if plan.data[1] != task.data.checksum:
        raise ValueError(
            f"the study's data have the checksum {plan.data[1]}, those here {task.data.checksum} "
            f"({task.data.about}): --data must name the same"
        )
    ours = {"versions": provenance.versions(), "source": provenance.source(plan.task)}
    for name, mine in ours.items():
        if plan.settings[name] != mine:
            raise ValueError(
                f"the study was begun with {name} {plan.settings[name]}, here are {mine}: "
                "install the same, or begin another study (--study NAME)"
            )
    return task


def _provenance(plan: Plan, spec: Spec, trial: Any) -> dict[str, Any]:
    return provenance.provenance(
        data={"about": plan.data[0], "checksum": plan.data[1]},
        source=plan.settings["source"],
        seeds={"trial": spec.seed},
        precision=plan.settings["precision"],
        threads=plan.settings["threads"],
        processes=trial.share.processes,
        device=trial.accelerator.device.type,
    )
