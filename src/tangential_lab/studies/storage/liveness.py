"""Which process runs a trial, and whether it is still alive."""

import os
import platform
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import psutil

from tangential_lab.studies.storage.records import Owner


def current_owner() -> Owner:
    """This process, described so that another process on this machine can find it."""
    process = psutil.Process()
    return {"machine": machine_id(), "pid": process.pid, "since": _started(process)}


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

    Args:
        watch_s: Seconds to watch before a worker counts as dead.
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
    """The start of a process in clock ticks since boot, which does not depend on the system time.

    Without /proc, in seconds since 1970, or psutil.NoSuchProcess is raised.
    """
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[19])  # proc(5): starttime
    except OSError:
        return process.create_time()
