"""Who runs a trial, and whether that process is still there."""

import os
import platform
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil


def current_owner() -> dict[str, Any]:
    """This process, in words that another one on this machine can check."""
    process = psutil.Process()
    return {"machine": machine_id(), "pid": process.pid, "since": _since(process)}


def machine_id() -> str:
    """This machine, as long as it runs, and these process numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [platform.node(), f"{uuid.getnode():x}"]
    parts += [boot.read_text().strip()] if boot.exists() else []
    parts += [os.readlink(namespace)] if namespace.exists() else []
    return " ".join(parts)


class LivenessMonitor:
    """Tells whose worker is dead.

    A process of this machine is looked for. Of another one the signs of life must have been missing
    for as long as this process looks on: they are missing, too, where the database was gone or this
    machine asleep, and then they come back.

    Args:
        watch_s: Seconds of looking on.
    """

    def __init__(self, watch_s: float) -> None:
        self.watch_s = watch_s
        self.missed: dict[int, float] = {}  # trial -> when its signs of life were first missed

    def miss(self, trials: Iterable[int]) -> None:
        """Of just these trials the signs of life are missing now."""
        now = time.monotonic()
        self.missed = {trial: self.missed.get(trial, now) for trial in trials}

    def is_dead(self, trial: int, owner: dict[str, Any] | None) -> bool:
        """Whether the worker of a running trial is; `owner` is None before it has said who."""
        if owner is not None and owner["machine"] == machine_id():
            return has_ended(owner)
        return trial in self.missed and time.monotonic() - self.missed[trial] >= self.watch_s


def has_ended(owner: dict[str, Any]) -> bool:
    """Whether that process, which was on this machine, has ended."""
    try:
        process = psutil.Process(owner["pid"])
        return _since(process) != owner["since"] or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _since(process: psutil.Process) -> float:
    """When it began: in ticks since the boot, which no correction of the clock moves, or as told.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[19])  # proc(5): starttime
    except OSError:
        return process.create_time()
