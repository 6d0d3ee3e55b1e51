"""Execution paths.

`native` takes what it can of a group in one call. For the rest, a backend is two names:
`batches(params, rows)` yields the positions of weights that are worked on together, and
`RULES[rule](grads, states, group)` advances their states and returns their updates.
"""

from importlib.metadata import version
from types import ModuleType

import torch

from tangential.backends import eager, foreach, native


def choose(wanted: bool | None) -> ModuleType:
    """The backend as wanted, else the faster: a compiler batches and fuses by itself."""
    if wanted is None:
        wanted = not torch.compiler.is_compiling()
    return foreach if wanted else eager


def described() -> str:
    """Every backend, a line each: whether it is there and what it runs on, or why it is not."""
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
