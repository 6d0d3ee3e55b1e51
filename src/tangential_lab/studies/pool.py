"""The worker processes of a study on this machine."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch

from tangential_lab.errors import root_cause, shorten
from tangential_lab.studies.children import SPAWN, Child, start
from tangential_lab.studies.database import database_errors
from tangential_lab.studies.store import PATIENCE_S, Store
from tangential_lab.studies.worker import TrialFailedError, WorkerOptions, run_worker
from tangential_lab.training import describe_error

LONGEST_TRACEBACK = 10_000  # characters of one that are printed
MEMORY = "The system may be out of memory: try fewer --workers"
EXITS = "Something ends the process, such as an exit in an optimizer or a data set: correct it"
POLL_S = 0.5
DEATHS = 3  # of workers that are replaced, each; then something is wrong


class StudyFailedError(Exception):
    """A study that cannot go on; what is finished is kept."""


class WorkerPool:
    """Worker processes on this machine; they end with this one."""

    def __init__(self, store: Store, place: WorkerOptions, say: Callable[[str], Any]) -> None:
        # no Event: a worker that is killed while it looks would leave it locked for all
        self.stop, self.store = SPAWN.RawValue("b", 0), store
        gpus = torch.cuda.device_count()
        self.arguments = (gpus, store.url, store.name, place, self.stop)
        self.say, self.deaths, self.hired = say, 0, 0
        self.workers: list[Child] = []

    def hire(self, count: int) -> None:
        """Start so many workers."""
        for _ in range(count):
            self.workers.append(start(_worker, self.hired, *self.arguments))
            self.hired += 1

    def left(self) -> list[tuple[Child, str]]:
        """The workers that work no more, and how they ended.

        Raises:
            Ended: one said why it cannot go on.
        """
        heard = [(worker, *worker.hear()) for worker in self.workers]
        for _, word, _ in heard:
            if word is not None:
                raise StudyFailedError(word)
        return [(worker, how) for worker, _, how in heard if how is not None]

    def replace(self, left: list[tuple[Child, str]], count: int) -> None:
        """Replace workers that left though there are trials to run.

        Raises:
            Ended: too many did.
        """
        for worker, how in left:
            self.workers.remove(worker)
            self.deaths += 1
            pid = worker.process.pid
            trial = self.store.patiently(lambda pid=pid: self.store.run_by(pid))
            during = f"{how}, {f'in {trial}' if trial else 'between trials'}"
            if self.deaths > DEATHS * count:
                raise StudyFailedError(
                    f"{self.deaths} workers ended too early, the last one ({during}). "
                    + (MEMORY if how == "SIGKILL" else EXITS)
                )
            self.say(f"A worker ended ({during}); another takes its trial.")
            self.hire(1)

    def dismiss(self) -> None:
        """Let the workers leave their trials where others can take them up, and wait for them."""
        self.stop.value = 1
        try:
            for worker in self.workers:
                while worker.process.is_alive():
                    worker.process.join(POLL_S)
                    worker.hear()  # one that has become another program is ended
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """End them at once."""
        for worker in self.workers:
            worker.end()


def _worker(
    number: int, gpus: int, url: str, name: str, place: WorkerOptions, stop: Any, messages: Any
) -> None:
    """A worker process's life."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the study decides what it means
    warnings.filterwarnings("ignore", "the compiled kernel is missing")  # the study has said so
    _one_device(number, gpus)
    try:
        store = Store(url, name, PATIENCE_S, create=False)
        with store.undamaged():
            run_worker(store, place, lambda: bool(stop.value), print)
    except (ValueError, OSError, *database_errors()) as error:
        error = root_cause(error) if isinstance(error, database_errors()) else error
        messages.send(f"{type(error).__name__}: {shorten(str(error))}")
        sys.exit(1)
    except TrialFailedError as error:
        print(shorten(error.where, LONGEST_TRACEBACK), file=sys.stderr, flush=True)
        messages.send(str(error))
        sys.exit(1)
    except BaseException as error:  # whatever else: the study must learn of it
        messages.send(describe_error(error))
        sys.stderr.write(shorten(traceback.format_exc(), LONGEST_TRACEBACK))
        sys.exit(1)


def _one_device(number: int, gpus: int) -> None:
    """Give every worker a GPU of its own, as far as they go.

    CUDA reads the variable once: nothing may have asked it for its devices in this process.
    """
    if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
