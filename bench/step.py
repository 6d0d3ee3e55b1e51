"""Time one optimizer step of AdamP, SGDP and their peers.

The optimizers share weights and gradients (lr is so small that no step changes a weight) and have
states of their own: GPT-2 with all peers stays below 14 GB.
"""

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from optimizer_step.memory import extra_memory
from optimizer_step.peers import PEERS, installed_peers
from optimizer_step.results import Result, Times, print_table, write_csv
from optimizer_step.workloads import GATES, SHAPES, Gradients, Shape, weights
from timing import Clock, interleaved, medians, seconds

from tangential_lab.errors import exit_with, one_line, report_errors
from tangential_lab.files import check_writable
from tangential_lab.names import one_of

MOST_THREADS, MOST_ROUNDS = 1024, 1_000_000
SEVERAL = Parameter(consume_multiple=True, negative=())
ShapeName = Annotated[str, Parameter(validator=one_of(SHAPES, "shape"))]
GateName = Annotated[str, Parameter(validator=one_of(GATES, "gate"))]
ThreadCount = Annotated[int, Parameter(validator=Number(gte=1, lte=MOST_THREADS))]

app = App(name="step.py", help=__doc__, version_flags=(), suppress_keyboard_interrupt=False)


@app.default
def step(
    *,
    shapes: Annotated[list[ShapeName], SEVERAL] = [*SHAPES],  # noqa: B006
    gates: Annotated[list[GateName], SEVERAL] = [*GATES],  # noqa: B006
    threads: Annotated[list[ThreadCount], SEVERAL] = [1, 2],  # noqa: B006
    rounds: Annotated[int, Parameter(validator=Number(gte=1, lte=MOST_ROUNDS))] = 15,
    clock: Clock = "wall",
    fused: Annotated[bool, Parameter(negative=())] = False,
    csv: Path | None = None,
) -> None:
    """Time one optimizer step of AdamP, SGDP and their peers.

    Args:
        shapes: Weights of a model, 1,000 small matrices ("tiny") or one embedding.
        gates: Gradients that open the gate, shut it, or open it by chance ("flicker").
        threads: Numbers of threads.
        rounds: Interleaved rounds per median; slow peers take part in a third of them.
        clock: Time on the wall, or CPU time of all threads: for a machine with other work.
        fused: Only the fused optimizers, and no memory: hundreds of rounds take little time.
        csv: File for the figures.
    """
    if csv:
        check_writable(csv)  # before minutes of work
    results = measure(shapes, gates, threads, rounds, clock, fused=fused)
    print_table(results)
    if csv:
        write_csv(results, csv)


def measure(
    shapes: list[str],
    gates: list[str],
    threads: list[int],
    rounds: int,
    clock: Clock = "wall",
    *,
    fused: bool = False,
) -> list[Result]:
    """Time every installed peer, or the fused ones, in every case.

    Raises:
        ModuleNotFoundError: a shape needs torchvision; nothing was measured then.
        ChildProcessError: there is too little memory.
    """
    sizes = {shape: SHAPES[shape]() for shape in shapes}
    before, results = torch.get_num_threads(), []
    try:
        for shape in shapes:
            if not fused:
                print(f"{shape}: extra memory", file=sys.stderr)
            memory = {} if fused else extra_memory(sizes[shape], max(threads))
            steps = _Steps(sizes[shape], fused=fused)
            for gate in gates:
                steps.gradients.choose(GATES[gate])
                for n in threads:
                    print(f"{shape}: gate {gate}, threads {n}", file=sys.stderr)
                    results.append(Result(shape, gate, n, memory, steps.time(n, rounds, clock)))
            del steps  # two shapes together might not fit into memory
            gc.collect()
    finally:
        torch.set_num_threads(before)
    return results


class _Steps:
    """One step of every optimizer on the same weights, and a copy of those weights."""

    def __init__(self, sizes: list[Shape], *, fused: bool) -> None:
        self.params, self.cold = weights(sizes), True
        self.gradients = Gradients(self.params)
        source = torch.cat([p.detach().flatten() for p in self.params])
        target = torch.empty_like(source)
        self.weights = source.numel()
        self.actions: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
        for name, peer in installed_peers(fused=fused).items():
            self.actions[name] = peer.build(self.params).step

    def time(self, threads: int, rounds: int, clock: Clock) -> Times:
        """Time every action; first, all run twice untimed, in later calls the fast ones once."""
        cold, every = self.cold, max(1, min(3, rounds // 5))  # at least five slow rounds, if any
        self.cold = False

        def takes_part(name: str, turn: int) -> bool:
            slow = name in PEERS and PEERS[name].slow
            return not slow or (cold if turn < 0 else turn % every == 0)

        torch.set_num_threads(threads)
        gc.collect()
        gc.disable()
        try:
            measured = interleaved(
                {name: partial(seconds, call, clock) for name, call in self.actions.items()},
                rounds,
                warm_up=2 if cold else 1,
                before_round=self.gradients.draw,
                takes_part=takes_part,
            )
        finally:
            gc.enable()
        step_s = medians(measured)
        copy_s = step_s.pop("copy")
        return Times(rounds, len(range(0, rounds, every)), self.weights, copy_s, step_s)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark; an error is one line on standard error."""
    with report_errors():
        try:
            app(arguments, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            exit_with(f"Error: {one_line(error)}", 2)


if __name__ == "__main__":  # the processes that measure memory import this file
    main(sys.argv[1:])
