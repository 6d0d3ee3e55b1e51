"""What the bench has measured: a record a case, a table, a CSV file."""

import csv
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from tangential.names import literal
from tangential_lab.cli.peers import BASE, OURS, PEERS, absent

# bytes per weight that a step has to move: it reads w, g and the states, and writes all but g
TRAFFIC = {"adam": 28, "sgd": 20, "copy": 8}


class Result(NamedTuple):
    """A case; by peer, the median seconds of a step and its extra memory."""

    shape: str
    gate: str
    threads: int
    rounds: int
    slow_rounds: int  # that slow peers took part in
    weights: int
    copy: float  # seconds that a copy of the weights takes
    seconds: dict[str, float]
    memory: dict[str, tuple[float, float]]  # of a step, and kept; shares of the weights' bytes

    def ratio(self, peer: str) -> float:
        """Time in units of torch's fused optimizer of the same rule."""
        return self.seconds[peer] / self.seconds[BASE[PEERS[peer].rule]]

    def of_copy(self, peer: str) -> float:
        """Bytes per second in units of the copy's."""
        return TRAFFIC[PEERS[peer].rule] / TRAFFIC["copy"] * self.copy / self.seconds[peer]


def print_table(results: list[Result], console: Console) -> None:
    """Print a row for every case, one for the extra memory of every shape, a column a peer."""
    names = [name for name in PEERS if name in results[0].seconds]
    table = Table(
        title=_title(results), caption=_caption(results), box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.title_justify = table.caption_justify = "left"
    for heading in ("weights", "gate", "thr."):
        table.add_column(heading)
    for heading in (*names, "copy GB/s", "AdamP of copy", "SGDP of copy"):
        table.add_column(heading.replace(" ", "\n").replace("_", "_\n"), justify="right")
    for shape, cases in groupby(results, key=lambda result: result.shape):
        memory: dict[str, tuple[float, float]] = {}
        for case in cases:
            cells = [_cell(case, name) for name in names]
            table.add_row(shape, case.gate, str(case.threads), *cells, *_bandwidths(case))
            memory = case.memory
        if memory:
            table.add_row(shape, "memory", "", *(_memory(*memory[name]) for name in names))
        table.add_section()
    console.print(table)


def _title(results: list[Result]) -> str:
    return (
        f"ms per step, median of {results[0].rounds} interleaved rounds (torch {torch.__version__}"
        ", CPU); x: against torch AdamW fused, SGDP against torch SGD fused"
    )


def _caption(results: list[Result]) -> str:
    slow = ", ".join(name for name, peer in PEERS.items() if peer.slow)
    lines = [
        f"{results[0].slow_rounds} of the rounds: {slow}.",
        "of copy: bytes per second, 28 a weight for AdamP and 20 for SGDP, against a copy's 8.",
        "memory: peak of a step beside weights, gradients and states + what the kernel keeps from "
        "step to step, in % of the weights; gate open.",
        *(f"left out: {name}: {reason}" for name, reason in absent().items()),
    ]
    return "\n".join(lines)


def _cell(case: Result, name: str) -> str:
    ms = 1000 * case.seconds[name]
    figure = f"{ms:.{0 if ms >= 100 else 1 if ms >= 10 else 2}f}"
    if name in BASE.values():
        return figure
    ratio = case.ratio(name)
    return f"{figure} {ratio:.{1 if ratio >= 10 else 2}f}x"


def _memory(step: float, kept: float) -> str:
    return f"{100 * step:.1f}" + (f" + {100 * kept:.1f} %" if kept else " %")


def _bandwidths(case: Result) -> list[str]:
    copy = TRAFFIC["copy"] * case.weights / case.copy / 1e9
    ours = [f"{100 * case.of_copy(name):.0f} %" for name in OURS if name in case.seconds]
    return [f"{copy:.1f}", *ours]


def write_csv(results: list[Result], path: Path) -> None:
    """Write a line for every case and peer; the last two fields are shares."""
    heading = (
        "weights",
        "gate",
        "threads",
        "optimizer",
        "ms",
        "ratio",
        "of_copy",
        "memory",
        "kept",
    )
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(heading)
        for r in results:
            for name, seconds in r.seconds.items():
                figures = (
                    1000 * seconds,
                    r.ratio(name),
                    r.of_copy(name),
                    *r.memory.get(name, ("", "")),
                )
                texts = (literal(r.shape), literal(r.gate))
                lines.writerow((*texts, r.threads, literal(name), *figures))
