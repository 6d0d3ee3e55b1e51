"""Optuna's trials: which of several equal trials counts, and whether its worker is alive."""

import os
import platform
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import psutil

from tangential_lab.studies.search import optuna
from tangential_lab.studies.typed_json import typed
from tangential_lab.training import Spec

FrozenTrial = Any  # optuna.trial.FrozenTrial


class ClaimedTrial(NamedTuple):
    """A trial that this process runs."""

    id: int
    key: str
    spec: Spec


class ClaimLostError(Exception):
    """The trial was given to another worker, because this one seemed to be dead."""


@contextmanager
def claim_checked() -> Iterator[None]:
    """Turns Optuna's error about a finished trial into ClaimLostError."""
    try:
        yield
    except optuna().exceptions.UpdateFinishedTrialError as error:
        raise ClaimLostError from error


def waiting_trial(key: str, spec: Spec) -> FrozenTrial:
    """A trial of this spec for Optuna to queue."""
    at = optuna().distributions.FloatDistribution
    about = {"key": key, "optimizer": spec.optimizer, "phase": spec.phase, "seed": spec.seed}
    return optuna().trial.create_trial(
        state=optuna().trial.TrialState.WAITING,
        params=spec.values,
        distributions={name: at(value, value) for name, value in spec.point},
        user_attrs=about,
    )


def oldest_by_key(trials: Iterable[FrozenTrial], *states: str) -> dict[str, FrozenTrial]:
    """For every key, the oldest trial in one of these states."""
    oldest = {}
    for trial in trials:
        if trial.state.name in states:
            oldest.setdefault(trial.user_attrs["key"], trial)
    return oldest


class Owner(TypedDict):
    """The process that runs a trial."""

    machine: str
    pid: int
    since: float  # when it started


def current_owner() -> Owner:
    """This process, described so that another process on this machine can find it."""
    process = psutil.Process()
    return {"machine": machine_id(), "pid": process.pid, "since": _started(process)}


def parse_owner(value: Any) -> Owner | None:
    """The process that runs a trial, or None if the database does not say."""
    with suppress(ValueError):
        return typed(Owner, value, "owner")
    return None


def machine_id() -> str:
    """Identifies this machine, its current boot, and the namespace of its process IDs."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [platform.node(), f"{uuid.getnode():x}"]
    parts += [boot.read_text().strip()] if boot.exists() else []
    parts += [os.readlink(namespace)] if namespace.exists() else []
    return " ".join(parts)


class LivenessMonitor:
    """Finds out which trials have lost their worker.

    On this machine, it looks for the process. A worker on another machine is dead if it sends no
    heartbeat for `watch_s` seconds while this process watches. (Heartbeats are missing, too, after
    the database was unavailable or this machine was asleep, but then they come back.)
    """

    def __init__(self, watch_s: float) -> None:
        self.watch_s = watch_s
        self.stale_since: dict[int, float] = {}  # by trial: when it was first seen to be stale

    def update(self, stale: Iterable[int]) -> None:
        """Set which trials have no recent heartbeat; all other trials have one."""
        now = time.monotonic()
        self.stale_since = {trial: self.stale_since.get(trial, now) for trial in stale}

    def is_dead(self, trial: int, owner: Owner | None) -> bool:
        """Whether the worker of a running trial is dead; `owner` is None if it is not known yet."""
        if owner is not None and owner["machine"] == machine_id():
            return has_ended(owner)
        since = self.stale_since.get(trial)
        return since is not None and time.monotonic() - since >= self.watch_s


def has_ended(owner: Owner) -> bool:
    """Whether this process, which ran on this machine, has ended."""
    try:
        process = psutil.Process(owner["pid"])
        return _started(process) != owner["since"] or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _started(process: psutil.Process) -> float:
    """When a process started, in clock ticks since boot: they do not depend on the system time."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[19])  # proc(5): starttime
    except OSError:  # without /proc, in seconds since 1970, if the process has not ended
        return process.create_time()
