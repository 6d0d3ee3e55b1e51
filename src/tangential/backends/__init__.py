"""How a step is taken: states advance, rows are summed, the gate decides, weights move.

`native` (the compiled kernel) takes what it can of a group in one call. For the rest, a backend
(`eager`, `foreach`) is two names: `batches`, the weights that are worked on together, and `RULES`,
how their states advance. `step` takes batches from moments by the gate to the new weights.
`rows`: where units lie. `table`: sums of many weights. `rounding`: narrow weights. `sharded`:
DTensors. `checks`: what must be true before a step. `watched`: what a monitor is given.
"""

from importlib.metadata import version
from types import ModuleType

import torch

from tangential.backends import eager, foreach, native
from tangential.backends.rows import (
    Projection,
    Rows,
    Units,
    ordered_sum,
    real,
    rows_of,
    shard_groups,
    splits_units,
    wide,
)
from tangential.backends.sharded import (
    ShardGroups,
    added,
    added_up,
    gradient_of,
    local,
    run_together,
    shards_of,
)
from tangential.backends.watched import StepSums, Watch, with_watcher, without_watcher

__all__ = [
    "Projection",
    "Rows",
    "ShardGroups",
    "StepSums",
    "Units",
    "Watch",
    "added",
    "added_up",
    "choose",
    "described",
    "gradient_of",
    "local",
    "native",
    "ordered_sum",
    "real",
    "rows_of",
    "run_together",
    "shard_groups",
    "shards_of",
    "splits_units",
    "wide",
    "with_watcher",
    "without_watcher",
]


def choose(wanted: bool | None) -> ModuleType:
    """The backend for weights that the kernel does not take: `foreach` as wanted, else the faster.

    A compiler batches and fuses by itself.
    """
    if wanted is None:
        wanted = not torch.compiler.is_compiling()
    return foreach if wanted else eager


def described() -> str:
    """The backends, one per line: what each runs on, or why it is missing."""
    fused = f"no: {native.reason()}"
    if native.kernel is not None:
        fused = f"yes, with {native.kernel.instruction_sets[0]}: the default on the CPU"
    return "\n".join(
        (
            f"native   {fused}",
            "foreach  yes: the default on other devices, and without native",
            "eager    yes: the reference, and the default under torch.compile",
            f"(tangential {version('tangential')}, torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads)",
        )
    )
