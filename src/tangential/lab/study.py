"""A study: its plan, its workers on this machine, and what they are told when something happens."""

import math
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Event, Thread
from typing import Any, NamedTuple

from tangential.lab import provenance
from tangential.lab.plan import Contender, Plan, Records
from tangential.lab.rivals import RIVALS, Rival, of_user
from tangential.lab.store import Store, failures
from tangential.lab.task import Task
from tangential.lab.worker import Place, work

AUDITED = 3, 16  # batches, and samples of each
DEATHS = 3  # of workers that are replaced, each; then something is wrong
POLL_S = 0.5


class Ended(Exception):  # noqa: N818
    """A study that cannot go on; what is finished is kept."""


class Wishes(NamedTuple):
    """What the user wants compared."""

    task: str
    options: dict[str, Any]
    rivals: tuple[str, ...]
    own: dict[str, str]  # the user's rivals: name -> source
    trials: int
    seeds: int
    epochs: float | None
    undecayed: bool
    precision: str
    threads: int
    sharded: bool


def planned(wishes: Wishes, task: Task) -> Plan:
    """The plan for these wishes; audits the task's model.

    Raises:
        ValueError: a rival of the user's is not to be had, or named as one of ours.
    """
    for name in wishes.own:
        if name in RIVALS:
            raise ValueError(f"rival {name!r} is the laboratory's own: choose another name")
    own = {name: of_user(i, name, source) for i, (name, source) in enumerate(wishes.own.items())}
    contenders = {
        name: contender(task, rival, wishes.own.get(name, ""))
        for name, rival in ({n: RIVALS[n] for n in wishes.rivals} | own).items()
    }
    return Plan(
        task=wishes.task,
        options=wishes.options,
        about=task.about,
        data=list(task.data),
        metric=task.metric,
        rivals=contenders,
        trials=wishes.trials,
        seeds=wishes.seeds,
        undecayed=wishes.undecayed,
        epochs=wishes.epochs or task.epochs,
        batch_size=task.batch_size,
        invariant=invariant(task),
        settings={
            "precision": wishes.precision,
            "threads": wishes.threads,
            "sharded": wishes.sharded,
            "versions": provenance.versions(),
            "source": provenance.source(wishes.task),
        },
    )


def contender(task: Task, rival: Rival, source: str) -> Contender:
    """What the plan knows of a rival."""
    published = task.published[rival.family]
    middle = {name: math.sqrt(low * high) for name, (low, high) in rival.space.items()}
    return Contender(
        source,
        rival.about,
        rival.baseline,
        rival.colour,
        rival.space,
        {name: published.get(name, center) for name, center in middle.items()},
    )


def invariant(task: Task) -> list[str]:
    """Names of the weights that the audit proves scale-invariant, by row or as a whole."""
    import torch

    from tangential import audit
    from tangential.lab.batches import Part, training

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.model()
        count, size = AUDITED
        few = Part(0, max(1, task.batch_size // size))
        batches = list(islice(training(task._replace(loaders=0), 0, 0, few), count))
        try:
            found = audit(model, batches, loss=task.audited or task.loss)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            warnings.warn(f"{task.name}'s weights cannot be audited: {error}", stacklevel=2)
            return []
    return [*found.names("row"), *found.names("weight")]


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def run(
    store: Store, plan: Plan, place: Place, workers: int, stop: Event, say: Callable[[str], Any]
) -> Iterator[Records]:
    """Let workers on this machine run the plan; yield its records, and whenever there are new ones.

    A worker that dies is replaced, and another takes its trial. Where `workers` is 0, others
    elsewhere are waited for.

    Raises:
        KeyboardInterrupt: `stop` was set before the last trial.
        Ended: a trial raised, or workers die again and again.
    """
    records = store.records(plan)
    yield records
    crew = _Crew(store, place, say)
    try:
        crew.hire(workers if len(records) < plan.size else 0)
        while not stop.is_set() and len(records) < plan.size:
            time.sleep(POLL_S)
            crew.look_after(workers)
            new = store.patiently(lambda: store.records(plan))
            if len(new) > len(records):
                records = new
                yield records
    except KeyboardInterrupt:
        crew.kill()
        raise
    finally:
        crew.dismiss()
    if len(records) < plan.size:
        raise KeyboardInterrupt


class _Crew:
    """Worker processes on this machine; they end with this one."""

    def __init__(self, store: Store, place: Place, say: Callable[[str], Any]) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.stop, self.messages = self.context.Event(), self.context.SimpleQueue()
        self.arguments = (store.url, store.name, place, self.stop, self.messages)
        self.say, self.deaths, self.hired = say, 0, 0
        self.processes: list[Any] = []

    def hire(self, count: int) -> None:
        """Start so many workers."""
        for _ in range(count):
            process = self.context.Process(target=_worker, args=(self.hired, *self.arguments))
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
        self.stop.set()
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


def _worker(number: int, url: str, name: str, place: Place, stop: Any, messages: Any) -> None:
    """A worker process's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.filterwarnings("ignore", "the compiled kernel is missing")  # the study has said so
    Thread(target=_end_with_parent, daemon=True).start()
    _one_device(number)
    try:
        work(Store(url, name), place, stop.is_set, print)
    except Exception as error:  # whatever a task or a rival raises: the study says it
        messages.put(f"{type(error).__name__}: {error}")
        if not isinstance(error, (ValueError, OSError, *failures())):
            raise


def _one_device(number: int) -> None:
    """Give every worker a GPU of its own, as far as they go."""
    import torch

    if torch.cuda.is_available() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % torch.cuda.device_count())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
