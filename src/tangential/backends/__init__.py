"""Execution paths.

`native` takes what it can of a group in one call. For the rest, a backend is two names:
`batches(params, rows)` yields the positions of weights that are worked on together, and
`RULES[rule](grads, states, group)` advances their states and returns their updates.
"""

from types import ModuleType

import torch

from tangential.backends import eager, foreach, native


def choose(wanted: bool | None) -> ModuleType:
    """The backend as wanted, else the faster: a compiler batches and fuses by itself."""
    if wanted is None:
        wanted = not torch.compiler.is_compiling()
    return foreach if wanted else eager


def described() -> list[tuple[str, str]]:
    """Every backend, and what it runs on or why it is not there."""
    if native.kernel is None:
        fused = f"no: {native.reason()}"
    else:
        fused = f"yes: the default for weights on the CPU, with {native.kernel.instruction_sets[0]}"
    return [
        ("native (fused=True)", fused),
        ("foreach (foreach=True)", "yes: any device; the default where the kernel is not there"),
        ("eager (foreach=False)", "yes: any device; the reference, and the default under torch.compile"),
    ]
