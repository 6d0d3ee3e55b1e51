"""The worker processes of a study on this machine."""

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from threading import Thread
from typing import Any

import torch

from tangential.lab.database import failures
from tangential.lab.errors import cut, deaf_children
from tangential.lab.store import Store
from tangential.lab.worker import Failed, Place, work

LONGEST_TRACEBACK = 10_000  # characters of one that are printed
DEATHS = 3  # of workers that are replaced, each; then something is wrong


class Ended(Exception):  # noqa: N818
    """A study that cannot go on; what is finished is kept."""


class Crew:
    """Worker processes on this machine; they end with this one."""

    def __init__(self, store: Store, place: Place, say: Callable[[str], Any]) -> None:
        self.context = multiprocessing.get_context("spawn")
        # no Event: a worker that is killed while it looks would leave it locked for all
        self.stop, self.messages = self.context.RawValue("b", 0), self.context.SimpleQueue()
        gpus = torch.cuda.device_count()
        self.arguments = (gpus, store.url, store.name, place, self.stop, self.messages)
        self.say, self.deaths, self.hired = say, 0, 0
        self.processes: list[Any] = []

    def hire(self, count: int) -> None:
        """Start so many workers."""
        for _ in range(count):
            process = self.context.Process(target=_worker, args=(self.hired, *self.arguments))
            with deaf_children():
                process.start()
            self.processes.append(process)
            self.hired += 1

    def look_after(self, count: int) -> None:
        """Replace the dead.

        Raises:
            Ended: one said why it cannot go on, or too many died.
        """
        if not self.messages.empty():
            raise Ended(self.messages.get())
        for process in [p for p in self.processes if p.exitcode]:
            self.processes.remove(process)
            self.deaths += 1
            if self.deaths > DEATHS * count:
                raise Ended(f"workers died {self.deaths} times, the last of {_cause(process)}")
            self.say(f"A worker died of {_cause(process)}; another takes its trial.")
            self.hire(1)

    def dismiss(self) -> None:
        """Let the workers leave their trials where others can take them up, and wait for them."""
        self.stop.value = 1
        try:
            for process in self.processes:
                process.join()
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """End them at once."""
        for process in self.processes:
            process.kill()


def _cause(process: Any) -> str:
    code = process.exitcode
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _worker(
    number: int, gpus: int, url: str, name: str, place: Place, stop: Any, messages: Any
) -> None:
    """A worker process's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.filterwarnings("ignore", "the compiled kernel is missing")  # the study has said so
    Thread(target=_end_with_parent, daemon=True).start()
    _one_device(number, gpus)
    try:
        work(Store(url, name), place, lambda: bool(stop.value), print)
    except Exception as error:  # whatever a task or a rival raises: the study says it
        messages.put(
            cut(str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}")
        )
        if not isinstance(error, (ValueError, OSError, *failures())):
            sys.stderr.write(cut(traceback.format_exc(), LONGEST_TRACEBACK))
            sys.exit(1)


def _one_device(number: int, gpus: int) -> None:
    """Give every worker a GPU of its own, as far as they go.

    CUDA reads the variable once: nothing may have asked it for its devices in this process.
    """
    if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
