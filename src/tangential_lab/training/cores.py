"""How many processes this machine is good for."""

import os

DECODERS = 16  # at most


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_processes() -> int:
    """Processes that decode photographs or sounds for this one: one on every core, 16 at most.

    Those that torchrun starts on a machine share its cores.
    """
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(DECODERS, usable_cores() // sharing))
