"""Who runs a trial, and whether that process is still there."""

import os
import platform
import uuid
from pathlib import Path
from typing import Any

import psutil


def owner() -> dict[str, Any]:
    """This process, in words that another one on this machine can check."""
    process = psutil.Process()
    return {"machine": machine(), "pid": process.pid, "since": process.create_time()}


def machine() -> str:
    """This machine, as long as it runs, and these process numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [platform.node(), f"{uuid.getnode():x}"]
    parts += [boot.read_text().strip()] if boot.exists() else []
    parts += [os.readlink(namespace)] if namespace.exists() else []
    return " ".join(parts)


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether that process has ended; of one on another machine nobody here knows."""
    if owner["machine"] != machine():
        return False
    try:
        process = psutil.Process(owner["pid"])
        return process.create_time() != owner["since"] or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
