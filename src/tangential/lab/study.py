"""A study: equal quasi-random tuning for every rival, then paired seeds; every trial is kept."""

import json
import math
import multiprocessing
import os
import platform
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, TextIO

from tangential.backends import native
from tangential.lab.rivals import RIVALS, SPACE
from tangential.lab.task import Spec
from tangential.lab.tasks import TASKS

Record = dict[str, Any]
Records = dict[Spec, Record]

TUNING_SEED = 0
FIRST_REPORT_SEED = 1000  # disjoint from the tuning seed
SPACE_SEED = 2021


class Plan(NamedTuple):
    """What a study compares: `trials` tuning trials a rival, then `seeds` seeds, twice."""

    task: str
    rivals: tuple[str, ...]
    trials: int
    seeds: int
    epochs: int

    @property
    def size(self) -> int:
        """Number of trials."""
        return len(self.rivals) * (self.trials + 2 * self.seeds)

    def tuning(self) -> list[Spec]:
        """The same points for every rival, rivals in turn."""
        return [
            Spec(self.task, rival, "tune", TUNING_SEED, *point, self.epochs)
            for point in points(self.trials)
            for rival in self.rivals
        ]

    def report(self, records: Records) -> list[Spec]:
        """The same seeds for every rival: at its best point, and for the mechanism.

        The mechanism is shown at the lr tuned for the baseline, for both, and without decay:
        there norms differ by nothing but the update.
        """
        best = {rival: self.best(rival, records) for rival in self.rivals}
        tuned = [spec._replace(phase="report") for spec in best.values()]
        bare = [
            best[rival]._replace(
                phase="mechanism", lr=best[self.baseline(rival) or rival].lr, weight_decay=0.0
            )
            for rival in self.rivals
        ]
        return [
            spec._replace(seed=FIRST_REPORT_SEED + i)
            for specs in (tuned, bare)
            for i in range(self.seeds)
            for spec in specs
        ]

    def baseline(self, rival: str) -> str | None:
        """The baseline of `rival`, where it takes part."""
        baseline = RIVALS[rival].baseline
        return baseline if baseline in self.rivals else None

    def best(self, rival: str, records: Records) -> Spec:
        """The tuning trial of `rival` that ranks first."""
        tried = [spec for spec in self.tuning() if spec.rival == rival]
        return max(tried, key=lambda spec: rank(records[spec]))


def rank(record: Record) -> tuple[bool, float, float]:
    """By score, then by lower loss; diverged trials last."""
    return not record["diverged"], record["score"], -record["loss"]


def points(count: int) -> list[tuple[float, float]]:
    """Quasi-random points (lr, weight_decay), log-uniform; fewer are a prefix of more."""
    from scipy.stats import qmc  # a second to import, and --help needs none of it

    sobol = qmc.Sobol(d=len(SPACE), rng=SPACE_SEED)
    unit = sobol.random_base2(math.ceil(math.log2(count)))[:count]
    return [(_within(*SPACE["lr"], x), _within(*SPACE["weight_decay"], y)) for x, y in unit]


def _within(low: float, high: float, share: float) -> float:
    """The value at `share` of the way from low to high in logarithms, to four digits."""
    return float(f"{low * (high / low) ** share:.4g}")


@contextmanager
def aside(path: Path) -> Iterator[TextIO]:
    """A file to write that takes the place of `path` when all is on disk, or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def source() -> str:
    """Fingerprint of the code that decides how a trial ends: all but the rest of the laboratory."""
    package = Path(__file__).parents[1]
    decisive = {package / "lab" / "task.py", package / "lab" / "rivals.py"}
    paths = [p for p in package.rglob("*.py") if p.parent != package / "lab" or p in decisive]
    return sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:12]


def kernel() -> str:
    """Fingerprint of the compiled kernel and its instruction set, which round as they will."""
    if native.kernel is None:
        return "none"
    compiled = Path(native.kernel.__file__).read_bytes()
    return f"{native.kernel.instruction_sets[0]} {sha256(compiled).hexdigest()[:12]}"


class Store:
    """Finished trials, a file each; the same trial, of the same code, has the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "trials"
        self.folder.mkdir(parents=True, exist_ok=True)
        packages = ("tangential", "torch", "scikit-learn")
        self.versions = {name: version(name) for name in packages}
        self.versions |= {"source": source(), "kernel": kernel()}

    def path(self, spec: Spec) -> Path:
        """Where the record of `spec` lies or will lie."""
        key = sha256(json.dumps([spec, self.versions]).encode()).hexdigest()[:12]
        return self.folder / f"{spec.rival}-{spec.phase}-{spec.seed}-{key}.json"

    def load(self, spec: Spec) -> Record | None:
        """The record of a finished trial, or None. An unreadable one counts as not finished."""
        path = self.path(spec)
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} cannot be read ({error}); its trial runs again", stacklevel=2)
            return None

    def save(self, spec: Spec, record: Record) -> Record:
        """Write a record aside and rename it, so that it is there whole or not at all."""
        record = {**spec._asdict(), **record, "provenance": self._provenance()}
        with aside(self.path(spec)) as file:
            json.dump(record, file)
        return record

    def _provenance(self) -> Record:
        return {
            "versions": self.versions | {"python": platform.python_version()},
            "machine": f"{platform.platform()}, {os.cpu_count()} cores",
            "command": shlex.join(["tangential", *sys.argv[1:]]),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[Event]:
    """An event that the first Ctrl-C sets; it then calls `stopping`, and the second is as usual.

    As an exception the first could fall into the saving of a trial.
    """
    stop = Event()
    usual = signal.getsignal(signal.SIGINT)

    def first(*_: Any) -> None:
        stop.set()
        stopping()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)


def run(
    specs: list[Spec], store: Store, workers: int, stop: Event
) -> Generator[tuple[Spec, Record, bool]]:
    """Train what the store lacks; yield every trial, and whether it was trained just now.

    Each trial is a single-threaded process on a core of its own. Once `stop` is set nothing new
    starts; the trials under way end and are kept.

    Raises:
        KeyboardInterrupt: `stop` was set before the last trial.
        BrokenProcessPool: a worker died.
    """
    found = {spec: record for spec in specs if (record := store.load(spec))}
    for spec, record in found.items():
        yield spec, record, False
    missing = [spec for spec in specs if spec not in found]
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(missing)), context, initializer=_prepare_worker)
    pending = {pool.submit(_train, spec): spec for spec in missing}
    try:
        while pending and not stop.is_set():
            for future in wait(pending, timeout=0.2, return_when=FIRST_COMPLETED).done:
                spec = pending.pop(future)
                yield spec, store.save(spec, future.result()), True
    finally:
        _end(pool, pending, store)
    if pending:
        raise KeyboardInterrupt


def _end(pool: ProcessPoolExecutor, pending: dict[Future[Record], Spec], store: Store) -> None:
    """Wait for the trials under way and keep them; on Ctrl-C kill them."""
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    for future, spec in pending.items():
        if not future.cancelled() and not future.exception():
            store.save(spec, future.result())


def _prepare_worker() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study decides what Ctrl-C means
    warnings.filterwarnings("ignore", "the compiled kernel is missing")  # the study has said so
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train(spec: Spec) -> Record:
    from tangential.lab.task import train

    return train(TASKS[spec.task](), spec)
