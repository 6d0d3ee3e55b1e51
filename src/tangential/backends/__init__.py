"""How a step is taken: states advance, rows are summed, the gate decides, weights move.

`native` (the compiled kernel) steps all weights on the CPU that it supports in one call, `triton`
those on a GPU in four launches. The other weights go to a backend (`eager`, `foreach`), which
defines `batches` (the weights it processes together) and `RULES` (how their states advance).
`batch`: the records of a step. `step`: updates, moments, gate, new weights. `rows`: the units of a
weight. `dots`: inner products of many weights. `sums`: their totals per weight. `rounding`: 16-bit
weights. `sharded`: DTensors. `amend`: what to do around the step of any other optimizer.
"""

from importlib.metadata import version
from types import ModuleType

import torch

from tangential.backends import eager, foreach, native, sharded, triton
from tangential.backends.amend import Begun, begin, finish, keep
from tangential.backends.batch import (
    LowPrecision,
    Rule,
    Scaling,
    State,
    StepOptions,
    WeightState,
)
from tangential.backends.rounding import is_narrow
from tangential.backends.rows import (
    Rows,
    as_real,
    ordered_sum,
    rows_of,
    shard_groups,
    splits_units,
    widen,
)
from tangential.backends.sharded import added_up, local, shards_of
from tangential.backends.step import step
from tangential.backends.sums import StepSums, Watch, with_watcher, without_watcher
from tangential.units import Projection, Units

__all__ = [
    "Begun",
    "LowPrecision",
    "Projection",
    "Rows",
    "Rule",
    "Scaling",
    "State",
    "StepOptions",
    "StepSums",
    "Units",
    "Watch",
    "WeightState",
    "added_up",
    "as_real",
    "begin",
    "choose",
    "described",
    "finish",
    "is_narrow",
    "keep",
    "local",
    "native",
    "ordered_sum",
    "rows_of",
    "shard_groups",
    "sharded",
    "shards_of",
    "splits_units",
    "step",
    "triton",
    "widen",
    "with_watcher",
    "without_watcher",
]


def choose(wanted: bool | None) -> ModuleType:
    """The backend for weights that the kernel does not take: `eager` if False, else `foreach`."""
    return eager if wanted is False else foreach


def described() -> str:
    """The backends, one per line: what each runs on, or why it is missing."""
    fused = f"no: {native.reason()}"
    if native.kernel is not None:
        fused = f"yes, with {native.kernel.instruction_sets[0]}: the default on the CPU"
    threads = torch.get_num_threads()
    return (
        f"native   {fused}\n"
        "foreach  yes: the default on other devices, and without native\n"
        "eager    yes: the reference, with the least memory\n"
        f"(tangential {version('tangential')}, torch {torch.__version__}, "
        f"{threads} thread{'' if threads == 1 else 's'})"
    )
