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
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from scipy.stats import qmc

from tangential.lab.rivals import RIVALS, SPACE
from tangential.lab.task import Spec
from tangential.lab.tasks import TASKS

Record = dict[str, Any]

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

    def report(self, records: dict[Spec, Record]) -> list[Spec]:
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

    def best(self, rival: str, records: dict[Spec, Record]) -> Spec:
        """The tuning trial of `rival` that ranks first."""
        tried = [spec for spec in self.tuning() if spec.rival == rival]
        return max(tried, key=lambda spec: rank(records[spec]))


def rank(record: Record) -> tuple[bool, float, float]:
    """By score, then by lower loss; diverged trials last."""
    return not record["diverged"], record["score"], -record["loss"]


def points(count: int) -> list[tuple[float, float]]:
    """`count` quasi-random points (lr, weight_decay), log-uniform; a prefix of the same sequence."""
    sobol = qmc.Sobol(d=len(SPACE), seed=SPACE_SEED)
    unit = sobol.random(2 ** math.ceil(math.log2(max(count, 1))))[:count]
    ranges = [(math.log10(low), math.log10(high)) for low, high in SPACE.values()]
    return [
        tuple(
            float(f"{10 ** (low + u * (high - low)):.4g}")
            for u, (low, high) in zip(row, ranges, strict=True)
        )
        for row in unit
    ]


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


class Store:
    """Finished trials, a file each; the same trial, and versions, has the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "trials"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.versions = {name: version(name) for name in ("tangential", "torch", "scikit-learn")}

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
            "command": shlex.join(sys.argv),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    specs: list[Spec], store: Store, workers: int, stopping: Callable[[], None]
) -> Iterator[tuple[Spec, Record, bool]]:
    """Train what the store lacks; yield every trial, and whether it was trained just now.

    Each trial is a single-threaded process of its own core. On Ctrl-C `stopping` is called,
    nothing new starts, and the trials under way end and are kept; on a second one they are
    killed.
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
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                spec = pending.pop(future)
                yield spec, store.save(spec, future.result()), True
    except KeyboardInterrupt:
        stopping()
        raise
    finally:
        _end(pool, pending, store)


def _end(pool: ProcessPoolExecutor, pending: dict[Future[Record], Spec], store: Store) -> None:
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
    torch.set_num_threads(1)


def _train(spec: Spec) -> Record:
    from tangential.lab.task import train

    return train(TASKS[spec.task](), spec)
