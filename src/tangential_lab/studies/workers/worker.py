"""A worker: runs trials of a study, one after another, until none is left."""

import json
import math
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tangential.files import write_atomically
from tangential_lab import experiments, training
from tangential_lab.studies import provenance, schedule
from tangential_lab.studies.plan import Plan, Settings
from tangential_lab.studies.storage.database import BEAT_S, database_errors
from tangential_lab.studies.storage.records import parse_record
from tangential_lab.studies.storage.store import Store
from tangential_lab.studies.storage.trials import ClaimedTrial, ClaimLostError
from tangential_lab.studies.typed_json import typed
from tangential_lab.training import Record, Records, Spec, Task, TrialOptions, TrialStopped

POLL_S = 1.0  # while other workers run the last trials


class TrialFailedError(Exception):
    """The task or the optimizer of a trial raised an error, or called exit."""

    @property
    def trace(self) -> str:
        """The traceback of that error, without its message, which this exception has."""
        frames = traceback.format_tb(self.__cause__.__traceback__ if self.__cause__ else None)
        return "".join(["Traceback (most recent call last):\n", *frames]).rstrip()


class WorkerOptions(NamedTuple):
    """What a worker reads and saves."""

    data: Path | None  # folder of the data sets
    folder: Path  # of the study, for checkpoints
    checkpoint_s: float  # seconds between checkpoints


def run_worker(
    store: Store,
    options: WorkerOptions,
    stop: Callable[[], bool],
    notify: Callable[[str], Any],
    on_records: Callable[[Records], Any] = lambda records: None,
    on_share: Callable[[float], Any] = lambda share: None,
) -> None:
    """Run trials until the study is complete or `stop`, called between steps, returns True.

    Under torchrun or `accelerate launch` all processes work on one trial together. `notify` gets
    a message when something unusual happens, `on_records` the finished trials before every claim,
    `on_share` after every step the share of the trial's steps that are done, then NaN.

    Raises:
        ValueError: this machine does not have the study's data, packages or code.
        TrialFailedError: a task or an optimizer raised another error.
    """
    from tangential_lab.training.distributed import this_process, value_of_first_process

    is_first, store.stop = this_process().is_main_process, stop
    plan = store.retry(store.plan)
    typed(Settings, plan.settings, "plan.settings")
    torch.set_num_threads(plan.settings["threads"])
    worker = Worker(store, options, stop, notify, on_records, on_share)
    while True:
        task = worker.task_for(plan)
        claim = value_of_first_process(worker.claim(plan) if is_first else None)
        if claim == "done":
            return
        if claim is None:
            time.sleep(POLL_S)
        else:
            worker.run(plan, task, claim, is_first=is_first)
        plan = value_of_first_process(store.retry(store.plan) if is_first else None)


@dataclass
class Worker:
    """Runs single trials; keeps the task in memory until the plan has another task."""

    store: Store
    options: WorkerOptions
    stop: Callable[[], bool]
    notify: Callable[[str], Any]
    on_records: Callable[[Records], Any]
    on_share: Callable[[float], Any]
    loaded: tuple[Any, Task] | None = None

    def task_for(self, plan: Plan) -> Task:
        """The plan's task, with its data."""
        key = (plan.task, plan.options)
        if self.loaded is None or self.loaded[0] != key:
            self.loaded = key, provenance.checked_task(plan, self.options.data)
        return self.loaded[1]

    def claim(self, plan: Plan) -> ClaimedTrial | str | None:
        """A trial to run; "done" if none is left, None if other workers run the last ones."""
        if self.stop():
            return "done"
        records = self.store.retry(lambda: self.store.records(plan))
        self.on_records(records)
        if not schedule.missing(plan, records):
            return "done"
        ready = schedule.ready(plan, records)
        return self.store.retry(lambda: self.store.claim(plan, ready))

    def run(self, plan: Plan, task: Task, claim: ClaimedTrial, *, is_first: bool) -> None:
        """Train a trial, from its last checkpoint if there is one, and store its record."""
        folder = self.options.folder / "checkpoints" / claim.key
        lost, over = Event(), Event()
        if is_first:
            Thread(target=self._beat, args=(claim, lost, over), daemon=True).start()
        try:
            record = self._train(plan, task, claim, folder, lost)
            if is_first and record is not None:
                self.store.retry(lambda: self.store.finish(claim, record))
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # other trials still have checkpoints there
                    folder.parent.rmdir()
        except ClaimLostError:
            self.notify("A trial was given to another worker: this worker sent no heartbeat.")
        finally:
            over.set()
            self.on_share(math.nan)

    def _train(
        self, plan: Plan, task: Task, claim: ClaimedTrial, folder: Path, lost: Event
    ) -> Record | None:
        """The record of a trial; None if it was stopped."""
        from tangential_lab.training.distributed import value_of_first_process
        from tangential_lab.training.trial import Trial

        entry, spec = entry_for(plan, claim.spec), claim.spec
        if (record := value_of_first_process(_finished_record(folder))) is not None:
            return record
        stop = lambda: lost.is_set() or self.stop()
        options = self._trial_options(plan, task, spec, folder, stop)
        try:
            trial = Trial(task, entry, spec, options)
            record = trial.train() | {"provenance": _provenance(plan, spec, trial)}
        except TrialStopped:
            if not lost.is_set():
                self.store.retry(lambda: self.store.give_back(claim))
            return None
        except (experiments.DataError, OSError, *database_errors()):
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            handler = signal.getsignal(signal.SIGINT)
            if isinstance(error, KeyboardInterrupt) and handler is signal.default_int_handler:
                raise  # the user may have pressed Ctrl-C; otherwise user code raised it
            message = f"{training.trial_title(*spec[:3])}: {training.describe_error(error)}"
            raise TrialFailedError(message) from error
        if trial.accelerator.is_main_process:
            self._save_record(record, folder)
        return record

    def _trial_options(
        self, plan: Plan, task: Task, spec: Spec, folder: Path, stop: Callable[[], bool]
    ) -> TrialOptions:
        is_test = spec.phase != "tune"
        evaluations = math.ceil(plan.epochs) - 1 if plan.analysis else task.evaluations
        return TrialOptions(
            epochs=plan.epochs,
            invariant=frozenset(plan.invariant),
            precision=plan.settings["precision"],
            folder=folder if plan.optimizers[spec.optimizer].resumes else None,
            sharded=plan.settings["sharded"],
            checkpoint_s=self.options.checkpoint_s,
            stop=stop,
            on_share=self.on_share,
            evaluations=evaluations if is_test else 0,
            layers=is_test,
            record_angles=plan.records_angles(spec),
            angles=self._angles(plan, spec),
        )

    def _angles(self, plan: Plan, spec: Spec) -> Tensor | None:
        """The angles that a trial needs: those of its leader's trial, which is finished."""
        if (leader := plan.leader_of(spec)) is None:
            return None
        from tangential_lab.training.distributed import this_process, value_of_first_process

        record = None
        if this_process().is_main_process:
            record = self.store.retry(lambda: self.store.records(plan))[leader]
        record = value_of_first_process(record)
        return training.recorded_angles(record["angles"], record["steps"])

    def _save_record(self, record: Record, folder: Path) -> None:
        """Save a record to disk, in case this worker dies before the database has it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(folder / "finished.json") as file:
                json.dump(record, file)
        except OSError as error:  # the database may still have space
            self.notify(f"The record of a finished trial cannot be saved in {folder}: {error}")

    def _beat(self, claim: ClaimedTrial, lost: Event, over: Event) -> None:
        while not over.wait(BEAT_S):
            try:
                with suppress(*database_errors()):  # the database may come back
                    self.store.beat(claim)
            except ClaimLostError:
                lost.set()


def _finished_record(folder: Path) -> Record | None:
    """The record of a trial whose worker died before the database had it."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        return parse_record((folder / "finished.json").read_text())
    return None


def entry_for(plan: Plan, spec: Spec) -> training.OptimizerEntry:
    """The optimizer of a spec; ValueError if it is a user's and cannot be loaded or has changed."""
    name, planned = spec.optimizer, plan.optimizers[spec.optimizer]
    if not planned.source:
        return training.OPTIMIZERS[name]
    return training.user_optimizer(0, name, planned.source, planned.about)


def _provenance(plan: Plan, spec: Spec, trial: Any) -> dict[str, Any]:
    return provenance.provenance() | {
        "data": {"about": plan.data[0], "checksum": plan.data[1]},
        "source": plan.settings["source"],
        "seeds": {"trial": spec.seed},
        "precision": plan.settings["precision"],
        "threads": plan.settings["threads"],
        "processes": trial.share.processes,
        "device": trial.accelerator.device.type,
    }
