"""What all benchmarks share: seconds of a call, interleaved rounds, medians, options."""

import argparse
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, TypeVar

Clock = Literal["wall", "cpu"]
T = TypeVar("T")

# "cpu" counts all threads of this process, and not the time that other processes take from it
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(call: Callable[[], object], clock: Clock = "wall") -> float:
    """Seconds that one call takes."""
    now = CLOCKS[clock]
    start = now()
    call()
    return now() - start


def interleaved(
    actions: Mapping[str, Callable[[], T]],
    rounds: int,
    *,
    warm_up: int = 1,
    before_round: Callable[[], object] = lambda: None,
    takes_part: Callable[[str, int], bool] = lambda name, turn: True,
) -> dict[str, list[T]]:
    """Run all actions in turns, so that a slow moment of the machine meets every one of them.

    The order within a round is random: each action finds the caches as the one before left them.

    Args:
        actions: What to run, by name; each returns its own measurement.
        rounds: Rounds that count.
        warm_up: Rounds before those, numbered -warm_up to -1; their measurements are dropped.
        before_round: Called before every round, untimed.
        takes_part: Whether an action takes part in a round, by name and number.

    Returns:
        The measurements of each action, in the order of the rounds.
    """
    measured: dict[str, list[T]] = {name: [] for name in actions}
    order = random.Random(0)
    for turn in range(-warm_up, rounds):
        before_round()
        names = [name for name in actions if takes_part(name, turn)]
        for name in order.sample(names, len(names)):
            result = actions[name]()
            if turn >= 0:
                measured[name].append(result)
    return measured


def medians(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each action's measurements."""
    return {name: median(values) for name, values in measured.items()}


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser of options whose help is a benchmark's docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
