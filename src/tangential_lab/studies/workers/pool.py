"""Child processes with their messages, and the workers of a study on this machine."""

import itertools
import math
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, NamedTuple

import torch

from tangential_lab.errors import INTERRUPTS, children_ignore_interrupts, root_cause, shorten
from tangential_lab.studies.storage.database import database_errors
from tangential_lab.studies.storage.store import PATIENCE_S, Store
from tangential_lab.studies.workers.worker import TrialFailedError, WorkerOptions, run_worker
from tangential_lab.training import describe_error

SPAWN = multiprocessing.get_context("spawn")
ENDING_S = 5  # seconds for a process to end after it has closed its pipe
LONGEST_TRACEBACK = 10_000  # characters of a traceback that are printed
OUT_OF_MEMORY = "The system may be out of memory: try fewer --workers"
EXITED = "Some code ends the process, such as an exit in an optimizer or a data set: correct it"
POLL_S = 0.5
DEATHS = 3  # deaths per worker; more are not an accident


class Child(NamedTuple):
    """A process, and the pipe on which it sends messages."""

    process: Any
    messages: Any

    def receive(self, *, block: bool = False) -> tuple[Any, str | None]:
        """Its next message, or else how it ended; both are None while it works, unless `block`."""
        if block:
            wait([self.messages, self.process.sentinel])
        code = self.process.exitcode
        try:
            if self.messages.poll():
                return self.messages.recv(), None
        except (EOFError, OSError):  # its end of the pipe is closed
            self.process.join(ENDING_S)
            code = self.process.exitcode
            if code is None:
                self.end()
                return None, "exec of another program"
        return None, None if code is None else ending(code)

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.messages.close()


def start(target: Callable[..., None], *arguments: Any) -> Child:
    """Start a process that calls `target` with these arguments and its end of the pipe.

    It ignores Ctrl-C and SIGTERM, which its parent handles, and ends when its parent ends.
    """
    receive, send = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_main, args=(target, arguments, send))
    with children_ignore_interrupts():
        process.start()
    send.close()
    return Child(process, receive)


def _main(target: Callable[..., None], arguments: tuple[Any, ...], messages: Any) -> None:
    os.set_inheritable(messages.fileno(), False)  # exec closes it, which tells the parent
    for number in INTERRUPTS:
        signal.signal(number, _ignore)  # unlike SIG_IGN, not inherited by programs it starts
    Thread(target=_end_with_parent, daemon=True).start()
    target(*arguments, messages)


def _ignore(*_: Any) -> None: ...


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def ending(code: int) -> str:
    """How a process with this exit code ended.

    >>> ending(0), ending(-9)
    ('exit status 0', 'SIGKILL')
    """
    signals = {-number: number.name for number in signal.Signals}
    return f"exit status {code}" if code >= 0 else signals.get(code, f"signal {-code}")


class StudyFailedError(Exception):
    """The study cannot continue; its finished trials are kept."""


class WorkerPool:
    """Worker processes on this machine; they end with this one."""

    def __init__(self, store: Store, options: WorkerOptions, notify: Callable[[str], Any]) -> None:
        # not an Event: a worker that is killed while it reads one leaves it locked for all others
        self.stop, self.store = SPAWN.RawValue("b", 0), store
        self.arguments = (torch.cuda.device_count(), store.url, store.name, options, self.stop)
        self.notify, self.deaths, self.numbers = notify, 0, itertools.count()
        self.workers: dict[Child, Any] = {}  # with the share of its trial's steps that are done

    def start(self, count: int) -> None:
        """Start this many workers."""
        for number in itertools.islice(self.numbers, count):
            share = SPAWN.RawValue("d", math.nan)
            self.workers[start(_worker, number, *self.arguments, share)] = share

    def shares(self) -> list[float]:
        """The share of the steps that each running trial has done."""
        return [x for share in self.workers.values() if not math.isnan(x := share.value)]

    def ended(self) -> list[tuple[Child, str]]:
        """The workers that have ended, and how; StudyFailedError if one sent an error message."""
        states = [(worker, *worker.receive()) for worker in self.workers]
        for _, message, _ in states:
            if message is not None:
                raise StudyFailedError(message)
        return [(worker, how) for worker, _, how in states if how is not None]

    def replace(self, ended: list[tuple[Child, str]], count: int) -> None:
        """Replace these of the study's `count` workers; StudyFailedError if too many have ended."""
        for worker, how in ended:
            del self.workers[worker]
            self.deaths += 1
            trial = self.store.retry(partial(self.store.run_by, worker.process.pid))
            during = f"{how}, {f'in {trial}' if trial else 'between trials'}"
            if self.deaths > DEATHS * count:
                raise StudyFailedError(
                    f"{self.deaths} workers ended too early, the last one ({during}). "
                    + (OUT_OF_MEMORY if how == "SIGKILL" else EXITED)
                )
            self.notify(f"A worker ended ({during}); another worker takes its trial.")
            self.start(1)

    def stop_workers(self) -> None:
        """Let the workers save and release their trials, and wait until they have ended."""
        self.stop.value = 1
        try:
            for worker in self.workers:
                while worker.process.is_alive():
                    worker.process.join(POLL_S)
                    worker.receive()  # ends a worker that called exec
        except KeyboardInterrupt:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.end()


def _worker(
    number: int,
    gpus: int,
    url: str,
    name: str,
    options: WorkerOptions,
    stop: Any,
    share: Any,
    messages: Any,
) -> None:
    """The main function of a worker process."""
    # the study's process warns, too
    warnings.filterwarnings("ignore", "the compiled kernel is missing")
    _one_device(number, gpus)
    try:
        store = Store(url, name, PATIENCE_S, create=False)
        with store.undamaged():
            on_share = lambda x: setattr(share, "value", x)
            run_worker(store, options, lambda: bool(stop.value), print, on_share=on_share)
        return
    except (ValueError, OSError, *database_errors()) as error:
        cause = root_cause(error) if isinstance(error, database_errors()) else error
        message, trace = f"{type(cause).__name__}: {shorten(str(cause))}", ""
    except TrialFailedError as error:
        message, trace = str(error), error.trace
    except BaseException as error:  # report any exception to the study
        message, trace = describe_error(error), traceback.format_exc().rstrip()
    if trace:
        with suppress(OSError):
            print(shorten(trace, LONGEST_TRACEBACK), file=sys.stderr, flush=True)
    messages.send(message)
    sys.exit(1)


def _one_device(number: int, gpus: int) -> None:
    """Give every worker its own GPU, as long as there are enough; CUDA must not be in use yet."""
    if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
