"""What the benchmark measured: one record per case, a table, a CSV file."""

import csv
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from timing import processor

from tangential.backends import native
from tangential.names import literal

from .memory import Memory
from .peers import BASELINES, OURS, PEERS, missing_peers

# bytes per weight that a step has to move: it reads w, g and the states, and writes all but g
TRAFFIC = {"adam": 28, "sgd": 20}
COPY_TRAFFIC = 8
LEAST_WIDTH = 160  # a narrower table is unreadable
COLUMNS = ("weights", "gate", "threads", "optimizer", "ms", "ratio", "of_copy", "memory", "kept")


class Times(NamedTuple):
    """Median times of one step of every peer, and of a copy of the weights."""

    rounds: int
    slow_rounds: int  # that slow peers took part in
    weights: int
    copy_s: float
    step_s: dict[str, float]


class Result(NamedTuple):
    """One case: shapes, gate and threads, and what was measured."""

    shape: str
    gate: str
    threads: int
    memory: dict[str, Memory]
    times: Times

    def ratio(self, peer: str) -> float:
        """Time divided by that of torch's fused optimizer with the same rule."""
        return self.times.step_s[peer] / self.times.step_s[PEERS[peer].baseline]

    def of_copy(self, peer: str) -> float:
        """Bytes per second divided by those of the copy."""
        return (
            TRAFFIC[PEERS[peer].rule] / COPY_TRAFFIC * self.times.copy_s / self.times.step_s[peer]
        )


def print_table(results: list[Result]) -> None:
    """Print one row per case, one for the extra memory of every shape, and one column per peer."""
    names = [name for name in PEERS if name in results[0].times.step_s]
    table = Table(
        title=_title(results), caption=_caption(results), box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.title_justify = table.caption_justify = "left"
    for heading in ("weights", "gate", "thr."):
        table.add_column(heading)
    for heading in (*names, "copy GB/s", "AdamP of copy", "SGDP of copy"):
        table.add_column(heading.replace(" ", "\n").replace("_", "_\n"), justify="right")
    for shape, cases in groupby(results, key=lambda result: result.shape):
        memory: dict[str, Memory] = {}
        for case in cases:
            cells = [_time_cell(case, name) for name in names]
            table.add_row(shape, case.gate, str(case.threads), *cells, *_bandwidths(case))
            memory = case.memory
        if memory:
            table.add_row(shape, "memory", "", *(_memory_cell(memory[name]) for name in names))
        table.add_section()
    Console(width=max(Console().width, LEAST_WIDTH)).print(table)


def _title(results: list[Result]) -> str:
    instruction_set = native.kernel.instruction_sets[0] if native.kernel else "without the kernel"
    return (
        f"ms per step, median of {results[0].times.rounds} interleaved rounds "
        f"({processor()}, {instruction_set}, torch {torch.__version__}); "
        "x: ratio to torch AdamW fused, for SGDP to torch SGD fused"
    )


def _caption(results: list[Result]) -> str:
    times, with_memory = results[0].times, any(result.memory for result in results)
    slow = ", ".join(name for name in times.step_s if PEERS[name].slow)
    lines = [
        f"In only {times.slow_rounds} of the rounds: {slow}." if slow else "",
        "of copy: bytes per second divided by those of a copy. A step moves 28 bytes per weight "
        "(AdamP) or 20 (SGDP), a copy 8.",
        "memory: peak of a step on top of weights, gradients and states + what the kernel keeps "
        "between steps, in % of the weights; gate open."
        if with_memory
        else "",
        *(f"left out: {name}: {reason}" for name, reason in missing_peers().items()),
    ]
    return "\n".join(line for line in lines if line)


def _time_cell(case: Result, name: str) -> str:
    ms = 1000 * case.times.step_s[name]
    text = f"{ms:.{0 if ms >= 100 else 1 if ms >= 10 else 2}f}"
    if name in BASELINES.values():
        return text
    ratio = case.ratio(name)
    return f"{text} {ratio:.{1 if ratio >= 10 else 2}f}x"


def _memory_cell(memory: Memory) -> str:
    kept = f" + {100 * memory.kept:.1f}" if memory.kept else ""
    return f"{100 * memory.step:.1f}{kept} %"


def _bandwidths(case: Result) -> list[str]:
    copy_gb_s = COPY_TRAFFIC * case.times.weights / case.times.copy_s / 1e9
    ours = [f"{100 * case.of_copy(name):.0f} %" for name in OURS if name in case.times.step_s]
    return [f"{copy_gb_s:.1f}", *ours]


def write_csv(results: list[Result], path: Path) -> None:
    """Write one line per case and peer; `memory` and `kept` are shares of the weights' bytes."""
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        for result in results:
            texts = (literal(result.shape), literal(result.gate), result.threads)
            for name, step_s in result.times.step_s.items():
                memory = result.memory.get(name, ("", ""))
                figures = (1000 * step_s, result.ratio(name), result.of_copy(name), *memory)
                lines.writerow((*texts, literal(name), *figures))
