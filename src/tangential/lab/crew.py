"""The worker processes of a study on this machine."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, NamedTuple

import torch

from tangential.lab.database import failures
from tangential.lab.owners import end_with_parent, ending
from tangential.lab.source import in_words
from tangential.lab.store import PATIENCE_S, Store
from tangential.lab.worker import Failed, Place, work

MEMORY = "The system may be out of memory: try fewer --workers"
EXITS = "Something ends the process, such as an exit in an optimizer or a data set: correct it"
DEATHS = 3  # of workers that are replaced, each; then something is wrong
LEAVING_S = 5  # for a process to end that has closed its pipe


class Ended(Exception):  # noqa: N818
    """A study that cannot go on; what is finished is kept."""


class Hired(NamedTuple):
    """A worker process, and the pipe on which it says why it cannot go on."""

    process: Any
    messages: Any

    def ending(self) -> str | None:
        """How it has ended; None while it works.

        Raises:
            Ended: it said why it cannot go on.
        """
        code = self.process.exitcode
        try:
            if self.messages.poll():
                raise Ended(self.messages.recv())
        except (EOFError, OSError):  # nobody holds the other end any more
            self.process.join(LEAVING_S)
            code = self.process.exitcode
            if code is None:
                self.process.kill()
                self.process.join()
                return "exec of another program"
        return None if code is None else ending(code)


class Crew:
    """Worker processes on this machine; they end with this one."""

    def __init__(self, store: Store, place: Place, say: Callable[[str], Any]) -> None:
        self.context, self.store = multiprocessing.get_context("spawn"), store
        # no Event: a worker that is killed while it looks would leave it locked for all
        self.stop = self.context.RawValue("b", 0)
        gpus = torch.cuda.device_count()
        self.arguments = (gpus, store.url, store.name, place, self.stop)
        self.say, self.deaths, self.hired = say, 0, 0
        self.workers: list[Hired] = []

    def hire(self, count: int) -> None:
        """Start so many workers."""
        for _ in range(count):
            receive, send = self.context.Pipe(duplex=False)
            process = self.context.Process(target=_worker, args=(self.hired, *self.arguments, send))
            process.start()
            send.close()
            self.workers.append(Hired(process, receive))
            self.hired += 1

    def left(self) -> list[tuple[Hired, str]]:
        """The workers that work no more, and how they ended.

        Raises:
            Ended: one said why it cannot go on.
        """
        return [(worker, how) for worker in self.workers if (how := worker.ending())]

    def replace(self, left: list[tuple[Hired, str]], count: int) -> None:
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
                raise Ended(
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
                    worker.process.join(LEAVING_S)
                    with suppress(Ended):
                        worker.ending()
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """End them at once."""
        for worker in self.workers:
            worker.process.kill()


def _worker(
    number: int, gpus: int, url: str, name: str, place: Place, stop: Any, messages: Any
) -> None:
    """A worker process's life."""
    os.set_inheritable(messages.fileno(), False)  # exec closes it, so that the study learns of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.filterwarnings("ignore", "the compiled kernel is missing")  # the study has said so
    Thread(target=end_with_parent, daemon=True).start()
    _one_device(number, gpus)
    try:
        work(Store(url, name, PATIENCE_S), place, lambda: bool(stop.value), print)
    except (ValueError, OSError, *failures()) as error:
        messages.send(f"{type(error).__name__}: {error}")
        sys.exit(1)
    except Failed as error:
        print(error.where, file=sys.stderr, flush=True)
        messages.send(str(error))
        sys.exit(1)
    except BaseException as error:  # whatever else: the study must learn of it
        messages.send(in_words(error))
        raise


def _one_device(number: int, gpus: int) -> None:
    """Give every worker a GPU of its own, as far as they go.

    CUDA reads the variable once: nothing may have asked it for its devices in this process.
    """
    if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
